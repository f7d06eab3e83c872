"""Every call into a plugin goes through here (invariant 4): what goes wrong in a plugin is a refusal."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from kipuka_core.errors import PluginFailed, RequestRefused, StoreUnavailable, WrongSecret

ResultT = TypeVar("ResultT")


@dataclass(frozen=True, slots=True)
class Guard:
    """Calls plugins under ``[plugins] timeout`` and believes only answers of the type that the port promises."""

    timeout_seconds: float = 10.0

    async def call(
        self,
        plugin: str,
        method: Callable[..., Awaitable[Any]],
        *arguments: Any,
        expect: type[ResultT] | tuple[type[ResultT], ...],
    ) -> ResultT:
        """Await ``method(*arguments)`` and return its answer.

        Raises PluginFailed, naming ``plugin``, for an exception, a late answer or one of the wrong type. A refusal that
        the plugin raises on purpose (RequestRefused, WrongSecret) passes, and so does the store's own StoreUnavailable.
        """
        try:
            async with asyncio.timeout(self.timeout_seconds):
                answer = await method(*arguments)
        except (RequestRefused, WrongSecret, StoreUnavailable):
            raise
        except TimeoutError as error:
            raise PluginFailed(plugin, f"no answer within {self.timeout_seconds:g} s") from error
        except asyncio.CancelledError as error:
            if _is_being_cancelled():
                raise
            raise PluginFailed(plugin, "cancelled itself") from error
        except Exception as error:
            # The text of a foreign exception may hold anything, a secret too: the type is told, the rest is not.
            raise PluginFailed(plugin, f"raised {type(error).__name__}") from error
        # Not isinstance(answer, expect) alone: a bool passes for an int there, and nothing else is to pass here.
        if not isinstance(answer, expect):
            raise PluginFailed(plugin, f"answered with {type(answer).__name__}")
        return answer


def _is_being_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0

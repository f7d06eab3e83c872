"""Every call into a plugin goes through here (invariant 4): what goes wrong in a plugin is a refusal."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from kipuka_core.errors import PluginFailed, RequestRefused, StoreUnavailable, WrongSecret

ResultT = TypeVar("ResultT")


class _Call:
    """A call that is under way."""

    __slots__ = ("deadline", "is_late", "task")

    def __init__(self, task: asyncio.Task[Any], deadline: float) -> None:
        self.task, self.deadline, self.is_late = task, deadline, False


class Guard:
    """Calls plugins under ``[plugins] timeout`` and believes only answers of the type that the port promises.

    One timer watches all calls. Most calls never wait, and a request makes a dozen of them: a timer for each would cost
    more than the calls.
    """

    def __init__(self, timeout_seconds: float = 10.0) -> None:
        self.timeout_seconds = timeout_seconds
        self._running: dict[_Call, None] = {}  # in the order of their deadlines, since all have the same time
        self._timer: asyncio.TimerHandle | None = None

    async def call(
        self,
        plugin: str,
        method: Callable[..., Awaitable[Any]],
        *arguments: Any,
        expect: type[ResultT] | tuple[type[ResultT], ...],
    ) -> ResultT:
        """Await ``method(*arguments)`` and return its answer.

        Raises PluginFailed, naming ``plugin``, for an exception, a late answer or one of the wrong type. A refusal that
        the plugin raises on purpose (RequestRefused, WrongSecret) passes, and so does a store that is away.
        """
        call = self._begin()
        try:
            answer = await method(*arguments)
        except (RequestRefused, WrongSecret, StoreUnavailable):
            raise
        except asyncio.CancelledError as error:
            if call.is_late and call.task.uncancel() == 0:
                raise self._late(plugin) from error
            if call.task.cancelling():
                raise
            raise PluginFailed(plugin, "cancelled itself") from error
        except Exception as error:
            # The text of a foreign exception may hold anything, a secret too: the type is told, the rest is not.
            raise PluginFailed(plugin, f"raised {type(error).__name__}") from error
        finally:
            del self._running[call]
        if call.is_late:  # it swallowed the cancellation
            call.task.uncancel()
            raise self._late(plugin)
        if not isinstance(answer, expect):
            raise PluginFailed(plugin, f"answered with {type(answer).__name__}")
        return answer

    def _begin(self) -> _Call:
        loop = asyncio.get_running_loop()
        task = asyncio.current_task(loop)
        if task is None:
            raise RuntimeError("plugins are called from tasks only")
        call = _Call(task, loop.time() + self.timeout_seconds)
        self._running[call] = None
        if self._timer is None:
            self._timer = loop.call_at(call.deadline, self._look)
        return call

    def _look(self) -> None:
        """Cancel what is late, and look again when the next call would be."""
        self._timer = None
        loop = asyncio.get_running_loop()
        for call in self._running:
            if call.is_late:
                continue
            if call.deadline > loop.time():
                self._timer = loop.call_at(call.deadline, self._look)
                return
            call.is_late = True
            call.task.cancel()

    def _late(self, plugin: str) -> PluginFailed:
        return PluginFailed(plugin, f"no answer within {self.timeout_seconds:g} s")

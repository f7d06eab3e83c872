"""Opening and closing what providers hand over."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar, cast

from pydantic import BaseModel

from kipuka_core.domain.guard import called, raised
from kipuka_core.errors import ConfigurationError, KipukaError
from kipuka_core.hooks.provider import Provider, Services
from kipuka_core.hooks.soundness import in_one_line, opening_problem, port_problem

log = logging.getLogger(__name__)
PortT = TypeVar("PortT")


async def open_port(
    provider: Provider[Any],
    settings: BaseModel,
    services: Services,
    *,
    port: type[PortT],
    where: str,
    stack: AsyncExitStack,
) -> PortT:
    """Open a provider on ``stack``, which closes it again in reverse order.

    ``where`` is the TOML path that the operator would change. Raises ConfigurationError for whatever goes wrong: one
    line, no traceback.
    """
    named = f"plugin {provider.name!r}"
    try:
        opening = _opening(provider, settings, services, where)
        with _impatience(f"{where}: {named}", services.call_timeout_seconds):
            opened = await opening.__aenter__()
    except ConfigurationError as error:
        raise naming_the_key(error, dict(settings), where) from error
    except KipukaError as error:
        raise ConfigurationError(where, str(error)) from error
    except (GeneratorExit, KeyboardInterrupt):
        raise
    except BaseException as error:
        if _is_being_cancelled(error):
            raise
        raise ConfigurationError(where, f"{named} failed to start: {in_one_line(error)}") from error
    stack.push_async_callback(_close, opening, provider)
    if problem := port_problem(opened, port):
        raise ConfigurationError(where, f"{named} {problem}")
    return cast("PortT", opened)


def _opening(
    provider: Provider[Any], settings: BaseModel, services: Services, where: str
) -> AbstractAsyncContextManager[Any]:
    opening = provider.open(settings, services)
    if problem := opening_problem(opening):
        raise ConfigurationError(where, f"plugin {provider.name!r} cannot be opened: {problem}")
    return opening


@contextmanager
def _impatience(named: str, seconds: float) -> Iterator[None]:
    """Tell the log what the start waits for: opening may take its time, for a token or a CA, and has no limit."""

    def tell() -> None:
        log.warning("%s is still being opened after %g s; the start waits for it", named, seconds)

    timer = asyncio.get_running_loop().call_later(seconds, tell)
    try:
        yield
    finally:
        timer.cancel()


async def _close(opening: AbstractAsyncContextManager[Any], provider: Provider[Any]) -> None:
    """Close what was opened. It is not told why: no plugin swallows what ends the server, or another one's failure.

    One that cannot be closed is one line in the log, and the others are closed all the same.
    """
    try:
        await opening.__aexit__(None, None, None)
    except (GeneratorExit, KeyboardInterrupt):
        raise
    except BaseException as error:
        if _is_being_cancelled(error):
            raise
        what = f"{called(provider.open)} {raised(error, provider.open)}"
        log.error("plugin %r failed to close, and the rest is closed all the same: %s", provider.name, what)


def _is_being_cancelled(error: BaseException) -> bool:
    """Whether somebody else wants this task to end; a plugin may also raise CancelledError by itself."""
    task = asyncio.current_task()
    return isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling() > 0


def naming_the_key(
    error: ConfigurationError, settings: Mapping[str, object], where: str, *, base_dir: Path | None = None
) -> ConfigurationError:
    """The same error, led by the key of the table ``where`` that names the file at fault.

    A plugin knows its files and not the table that they came from. Without such a key ``where`` itself stands in for a
    place that the plugin left out. ``base_dir`` is what relative paths in ``settings`` are relative to, if any are.
    """
    for name, value in settings.items():
        known = {str(value)} | ({str(base_dir / value)} if base_dir and isinstance(value, str) else set())
        if error.where and error.where in known:
            return ConfigurationError(f"{where}.{name}", str(error))
    return ConfigurationError(error.where or where, error.problem)

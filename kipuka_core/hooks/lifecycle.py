"""Opening and closing what providers hand over."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

from kipuka_core.errors import ConfigurationError, KipukaError
from kipuka_core.hooks.provider import Provider, Services

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
    try:
        opened = await stack.enter_async_context(provider.open(settings, services))
    except ConfigurationError as error:
        raise naming_the_key(error, dict(settings), where) from error
    except KipukaError as error:
        raise ConfigurationError(where, str(error)) from error
    except Exception as error:
        raise ConfigurationError(
            where, f"plugin {provider.name!r} failed to start: {type(error).__name__}: {error}"
        ) from error
    if not isinstance(opened, port):
        raise ConfigurationError(
            where, f"plugin {provider.name!r} opened a {type(opened).__name__}, which is not a {port.__name__}"
        )
    return opened


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

"""Opening and closing what providers hand over."""

from __future__ import annotations

from contextlib import AsyncExitStack
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
        raise ConfigurationError(error.where or where, error.problem) from error
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

"""``kipuka_core:app``: the EST application for any ASGI server that can show the client certificate.

Light to import: the server itself is loaded and assembled in the lifespan, from the file that ``KIPUKA_CONFIG`` names.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import AsyncExitStack
from typing import Any

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class App:
    """Assembles itself at lifespan start-up and closes everything at shutdown."""

    def __init__(self) -> None:
        self._serve: Callable[[Scope, Receive, Send], Awaitable[None]] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif self._serve is not None:
            await self._serve(scope, receive, send)
        else:
            raise RuntimeError("kipuka_core:app needs a server that runs the ASGI lifespan")

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        async with AsyncExitStack() as stack:
            try:
                self._serve = await _open(stack)
            except Exception as error:  # noqa: BLE001  # the server is told why, and ends
                await send({"type": "lifespan.startup.failed", "message": f"kipuka: error: {error}"})
                return
            await send({"type": "lifespan.startup.complete"})
            await receive()
        self._serve = None
        await send({"type": "lifespan.shutdown.complete"})


async def _open(stack: AsyncExitStack) -> Callable[[Scope, Receive, Send], Awaitable[None]]:
    # Imported here: whoever imports kipuka_core to write a plugin does not pay for the server.
    from kipuka_core.assemble import assemble, utc_now  # noqa: PLC0415
    from kipuka_core.config import load  # noqa: PLC0415
    from kipuka_core.edges import log  # noqa: PLC0415
    from kipuka_core.edges.beside import running  # noqa: PLC0415
    from kipuka_core.edges.tls.hypercorn_peer import with_peer_from_context  # noqa: PLC0415
    from kipuka_core.edges.tls.peer import PeerReader  # noqa: PLC0415
    from kipuka_core.edges.tls.scope import describe_with  # noqa: PLC0415
    from kipuka_core.listeners import est_material  # noqa: PLC0415
    from kipuka_core.pursuing import PursuitJob  # noqa: PLC0415

    log.configure()
    assembly = await stack.enter_async_context(assemble(load(None, os.environ)))
    material = await est_material(assembly)
    tls = material.tls
    material.chain.inspect(utc_now())  # not in time is an error here, where warnings only tell of it
    for warning in dict.fromkeys((*assembly.warnings, *material.warnings(utc_now()))):
        log.get_logger().warning("configuration", warning=warning)
    peers = PeerReader(tls.anchors, required=tls.client_auth == "required")
    await stack.enter_async_context(running(PursuitJob.of(assembly, utc_now).run()))
    return with_peer_from_context(assembly.est, describe_with(peers))


app = App()

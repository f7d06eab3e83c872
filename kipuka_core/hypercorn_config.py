"""Sockets and TLS from ``kipuka.toml``, for ``hypercorn -c python:kipuka_core.hypercorn_config kipuka_core:app``.

Hypercorn copies the attributes of this module into a configuration of its own and calls ``create_ssl_context`` in every
worker. It offers no way to end quietly, so a configuration that does not load is an exception here.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from concurrent.futures import ThreadPoolExecutor

from kipuka_core.assemble import assemble
from kipuka_core.config import load
from kipuka_core.edges.tls.context import ServerTls, build_context
from kipuka_core.edges.tls.hypercorn_peer import install
from kipuka_core.listeners import est_tls

_config = load(None, os.environ)

bind = [str(_config.server.listen)]
workers = _config.server.workers
# Hypercorn listens in clear unless both are set; the context below is what is used.
certfile = str(_config.tls.cert)
keyfile = str(_config.tls.key)
keep_alive_timeout = _config.server.idle_timeout
ssl_handshake_timeout = _config.server.handshake_timeout
graceful_timeout = _config.server.shutdown_timeout
include_server_header = False
h11_max_incomplete_size = 16384
h2_max_header_list_size = 16384


def create_ssl_context() -> ssl.SSLContext:
    """The context of the EST listener, whose connections the application can see."""

    async def settings() -> ServerTls:
        async with assemble(_config) as assembly:
            return await est_tls(assembly)

    # In a thread: hypercorn calls this from a running event loop, and the CAs are asked for their certificates.
    with ThreadPoolExecutor(max_workers=1) as thread:
        context = build_context(thread.submit(asyncio.run, settings()).result())
    install(context)
    return context

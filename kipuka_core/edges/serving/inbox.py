"""What an app is sent while it runs, with room for little and without waiting for those who do not read.

Hypercorn 0.18 waits for room in an app's queue even when the app has answered without reading, and then holds the
connection for ever: a few small pieces of a body sent to a path that does not exist are enough.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from hypercorn.asyncio.task_group import TaskGroup, _handle


class Inbox:
    """Messages for one app; :meth:`put` waits for room only as long as the request goes on."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._messages: asyncio.Queue[Any] = asyncio.Queue()
        self._room = asyncio.Event()
        self._room.set()
        self._over = False

    async def get(self) -> Any:
        """The next message, as ASGI's ``receive``."""
        message = await self._messages.get()
        self._room.set()
        return message

    async def put(self, message: Any) -> None:
        """Add a message; after ``http.disconnect``, which hypercorn sends at every request's end, none is added."""
        if message["type"] == "http.disconnect":
            self._over = True
            self._messages.put_nowait(message)
            self._room.set()
            return
        await self._room.wait()
        if not self._over:
            self._messages.put_nowait(message)
            if self._messages.qsize() >= self._size:
                self._room.clear()


class Requests(TaskGroup):
    """The tasks of a connection; each of its apps has an :class:`Inbox`."""

    async def spawn_app(self, app: Any, config: Any, scope: Any, send: Any) -> Callable[[Any], Awaitable[None]]:
        """As hypercorn's; the two functions for synchronous apps are not there."""
        inbox = Inbox(config.max_app_queue_size)
        self.spawn(_handle, app, config, scope, inbox.get, send, None, None)
        return inbox.put

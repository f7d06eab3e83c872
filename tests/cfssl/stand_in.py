"""Something in CFSSL's place that misbehaves on demand."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

Answer = Callable[["Conversation"], Awaitable[None]]


@dataclass
class Conversation:
    """One connection, whose question was read."""

    endpoint: str
    question: dict[str, Any]
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, status: str, body: str | bytes, *headers: str) -> None:
        content = body.encode() if isinstance(body, str) else body
        head = "\r\n".join([f"HTTP/1.1 {status}", f"Content-Length: {len(content)}", "Connection: close", *headers])
        await self.send_bytes(f"{head}\r\n\r\n".encode() + content)

    async def send_bytes(self, content: bytes) -> None:
        self.writer.write(content)
        await self.writer.drain()


@dataclass
class StandIn:
    """Listens; ``answer`` is what it does next."""

    port: int = 0
    answer: Answer | None = None
    asked: list[Conversation] = field(default_factory=list)
    conversations: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.conversations.add(task)
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                await self._converse(reader, writer)
                writer.close()
                await writer.wait_closed()
        finally:
            writer.transport.abort()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        lengths = [line.split(":")[1] for line in head.lower().splitlines() if line.startswith("content-length:")]
        body = await reader.readexactly(int(lengths[0]))
        endpoint = head.split()[1].rpartition("/")[2]
        conversation = Conversation(endpoint, json.loads(body), reader, writer)
        self.asked.append(conversation)
        assert self.answer is not None
        await self.answer(conversation)


@asynccontextmanager
async def stand_in() -> AsyncIterator[StandIn]:
    """Until the end of the block."""
    made = StandIn()
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
        for conversation in made.conversations:
            conversation.cancel()
        await asyncio.gather(*made.conversations, return_exceptions=True)
        await server.wait_closed()


def error(code: int, message: str) -> str:
    """An error as CFSSL writes it."""
    errors = [{"code": code, "message": message}]
    return json.dumps({"success": False, "result": None, "errors": errors, "messages": []})


def success(**result: Any) -> str:
    """A result as CFSSL writes it."""
    return json.dumps({"success": True, "result": result, "errors": [], "messages": []})

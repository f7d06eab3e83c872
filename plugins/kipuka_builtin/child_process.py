"""A program that is asked one thing: bounded in time, output and number, and never left behind."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from kipuka_builtin.external_ca import shown_text
from kipuka_core import OutcomeUnknown, Unavailable

MAX_OUTPUT_BYTES = 256 * 1024
_KEPT_ERROR_BYTES = 4096
_LOGGED_ERROR_CHARACTERS = 500
_SHORTEST_HIDDEN = 6
_REAP_SECONDS = 5
_CHUNK_BYTES = 16 * 1024
_LOG = logging.getLogger("kipuka_builtin.command")


@dataclass(frozen=True, slots=True)
class Finished:
    """A program that ended by itself. ``exit_code`` is negative for a signal."""

    exit_code: int
    output: bytes


class Programs:
    """Runs one program, as often at once as ``at_once`` says; more wait for ``patience_seconds``.

    ``hidden`` are values that nobody shall see in what the program says.
    """

    def __init__(
        self,
        argv: Sequence[str],
        *,
        directory: Path,
        environment: Mapping[str, str],
        hidden: Sequence[str],
        at_once: int,
        timeout_seconds: float,
        patience_seconds: float,
    ) -> None:
        self._argv = tuple(argv)
        self._directory = directory
        self._environment = dict(environment)
        self._hidden = tuple(each for each in hidden if len(each) >= _SHORTEST_HIDDEN)
        self._slots = asyncio.Semaphore(at_once)
        self._timeout_seconds = timeout_seconds
        self._patience_seconds = patience_seconds

    async def ask(self, question: bytes) -> Finished:
        """Run the program with ``question`` on its standard input.

        Raises Unavailable when it was surely not started, OutcomeUnknown when it was and had to be stopped.
        """
        async with self._slot():
            process = await self._start()
            try:
                async with asyncio.timeout(self._timeout_seconds):
                    finished = await self._talk(process, question)
            except TimeoutError:
                await _kill(process)
                raise OutcomeUnknown(f"the CA's program did not end within {self._timeout_seconds:g} s") from None
            except BaseException:
                await _kill(process)
                raise
        if len(finished.output) > MAX_OUTPUT_BYTES:
            raise OutcomeUnknown("the CA's program wrote more than is read")
        return finished

    def without_secrets(self, text: str) -> str:
        """A text of the program's without the values of the environment variables that it was given."""
        for value in self._hidden:
            text = text.replace(value, "[redacted]")
        return text

    @asynccontextmanager
    async def _slot(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._patience_seconds):
                await self._slots.acquire()
        except TimeoutError:
            raise Unavailable("too many requests wait for the CA's program", retry_after_seconds=10) from None
        try:
            yield
        finally:
            self._slots.release()

    async def _start(self) -> asyncio.subprocess.Process:
        # Shielded: a cancellation in the middle would leave a process that nobody knows.
        starting = asyncio.ensure_future(
            asyncio.create_subprocess_exec(
                *self._argv,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                cwd=self._directory,
                env=self._environment,
                start_new_session=True,
            )
        )
        try:
            return await asyncio.shield(starting)
        except asyncio.CancelledError:
            await _kill(await starting)
            raise
        except OSError as error:
            _LOG.warning("%s cannot be started: %s", self._argv[0], error.strerror)
            raise Unavailable("the CA's program cannot be started") from None

    async def _talk(self, process: asyncio.subprocess.Process, question: bytes) -> Finished:
        async with asyncio.TaskGroup() as together:
            together.create_task(_write(process, question))
            errors = together.create_task(_beginning_of(process))
            output = await _output_of(process)
            if len(output) > MAX_OUTPUT_BYTES:
                _kill_group(process)
                await _drop(process.stdout)
        exit_code = await process.wait()
        said = self.without_secrets(errors.result().decode(errors="replace"))
        if said := shown_text(said, _LOGGED_ERROR_CHARACTERS):
            _LOG.warning("%s says: %s", self._argv[0], said)
        return Finished(exit_code, output)


async def _write(process: asyncio.subprocess.Process, question: bytes) -> None:
    assert process.stdin is not None  # noqa: S101  # it was started with pipes
    with suppress(BrokenPipeError, ConnectionResetError):  # it need not read what it is not interested in
        process.stdin.write(question)
        await process.stdin.drain()
        process.stdin.close()
        await process.stdin.wait_closed()


async def _output_of(process: asyncio.subprocess.Process) -> bytes:
    """All of it, or a little more than is allowed."""
    assert process.stdout is not None  # noqa: S101  # it was started with pipes
    found = bytearray()
    while len(found) <= MAX_OUTPUT_BYTES and (part := await process.stdout.read(_CHUNK_BYTES)):
        found += part
    return bytes(found)


async def _beginning_of(process: asyncio.subprocess.Process) -> bytes:
    """What is kept of the errors; the rest is read and dropped, so that the program can go on writing."""
    assert process.stderr is not None  # noqa: S101  # it was started with pipes
    found = b""
    while part := await process.stderr.read(_CHUNK_BYTES):
        found += part[: _KEPT_ERROR_BYTES - len(found)]
    return found


async def _kill(process: asyncio.subprocess.Process) -> None:
    """Kill the program and all that it started and did not leave its group, and reap it."""
    _kill_group(process)
    await asyncio.shield(_reap(process))


def _kill_group(process: asyncio.subprocess.Process) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


async def _reap(process: asyncio.subprocess.Process) -> None:
    """Asyncio tells of the end of a process only when its pipes have been read to theirs."""
    with suppress(TimeoutError):  # somebody who has left the group may hold a pipe for ever
        async with asyncio.timeout(_REAP_SECONDS):
            await asyncio.gather(_drop(process.stdout), _drop(process.stderr), process.wait())


async def _drop(stream: asyncio.StreamReader | None) -> None:
    """Read to the end; not where somebody else does."""
    with suppress(RuntimeError):
        while stream is not None and await stream.read(_CHUNK_BYTES):
            pass

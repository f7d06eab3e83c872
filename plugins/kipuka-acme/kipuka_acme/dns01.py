"""dns-01 (RFC 8555 8.4): by a program that knows the zone."""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from pathlib import Path

from kipuka_acme.challenges import Answering, Solver
from kipuka_core import Unavailable

_ENVIRONMENT = ("PATH", "HOME", "LANG", "TZ")
"""Nothing else: kipuka's own environment may hold secrets. The program has its own in a file of its own."""


class DnsHook(Solver):
    """Calls ``PROGRAM present|cleanup NAME VALUE``; exit status 0 is success."""

    challenge_type = "dns-01"

    def __init__(self, program: Path, *, wait_seconds: int, timeout_seconds: float) -> None:
        self._program = program
        self._timeout_seconds = timeout_seconds
        self.wait_seconds = wait_seconds

    async def present(self, answering: Answering) -> None:
        """Add the record, beside others of the same name: a wildcard and its base name have one each."""
        await self._run("present", answering)

    async def cleanup(self, answering: Answering) -> None:
        """Take that one away."""
        await self._run("cleanup", answering)

    async def _run(self, word: str, answering: Answering) -> None:
        environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
        arguments = (word, answering.record_name, answering.record_value)
        try:
            process = await asyncio.create_subprocess_exec(
                self._program,
                *arguments,
                env=environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError as error:
            raise Unavailable("this server cannot run its program for DNS records") from error
        try:
            async with asyncio.timeout(self._timeout_seconds):
                status = await process.wait()
        except TimeoutError as error:
            raise Unavailable("the program for DNS records takes too long") from error
        finally:
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, 9)
                await process.wait()
        if status != 0:
            raise Unavailable("the program for DNS records has failed")

"""CA backend ``command``: a program of the deployment has certificates signed, wherever and however it likes.

It is given one JSON object on its standard input and answers with a PEM certificate or a JSON object; the exit code
says what happened. See [External CAs](external-cas.md).
"""

from __future__ import annotations

import os
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, ClassVar

from cryptography import x509
from pydantic import Field, Strict

from kipuka_builtin.child_process import Finished, Programs
from kipuka_builtin.command_messages import (
    issue_question,
    ping_question,
    poll_question,
    read_answer,
    revoke_question,
)
from kipuka_builtin.external_ca import read_chain
from kipuka_core import (
    Approved,
    Asked,
    CaBackend,
    CaChain,
    CaProfile,
    CaProfileSettings,
    ConfigurationError,
    Duration,
    Issued,
    NotIssued,
    OutcomeUnknown,
    Provider,
    Services,
    Template,
    Unavailable,
    Wait,
)
from kipuka_core.hooks.secret_files import check_permissions, shown

_WRITABLE_BY_OTHERS = 0o022
_Name = Annotated[str, Field(pattern="^[A-Za-z_][A-Za-z0-9_]*$")]


class CommandCaSettings(CaProfileSettings):
    """One ``[[ca]]`` table with ``backend = "command"``."""

    id: str | None = Field(default=None, description="The name of this CA; labels refer to it.")
    program: Annotated[tuple[str, ...], Field(min_length=1)] = Field(
        description="The program and its arguments, without a shell. A relative path is relative to `kipuka.toml`.",
        examples=[["bin/sign", "--production"]],
    )
    chain: str = Field(description="PEM file with the CA's certificate and its issuers in order, up to the root.")
    timeout: Duration = Field(
        default=8,
        description="A program that has not ended by then is killed, and its request's outcome is unknown. Shorter "
        "than `[plugins] timeout`.",
    )
    processes: Annotated[int, Strict(), Field(ge=1, le=1000)] = Field(
        default=8, description="So many programs run at once in each worker; further requests wait, then get 503."
    )
    environment: tuple[_Name, ...] = Field(
        default=(), description="Environment variables that are passed on, by name. Besides these there is only `PATH`."
    )
    finds: Annotated[bool, Strict()] = Field(
        default=False,
        description="The program finds out what became of a request whose outcome is unknown (action `poll` without a "
        "reference).",
    )
    revokes: Annotated[bool, Strict()] = Field(default=False, description="The program revokes (action `revoke`).")


class CommandCa(CaBackend):
    """Asks the program, once for each call. Safe for any number of concurrent calls."""

    external: ClassVar[bool] = True

    def __init__(self, settings: CommandCaSettings, chain: CaChain, programs: Programs) -> None:
        self.finds = settings.finds
        self.revokes = settings.revokes
        self._chain = chain
        self._programs = programs
        self._profile = settings.ca_profile()

    @property
    def may_set(self) -> CaProfile:
        """What the settings declare."""
        return self._profile

    async def chain(self) -> CaChain:
        """The certificates that were loaded at start-up."""
        return self._chain

    async def issue(self, approved: Approved) -> Issued | Wait:
        """Action ``issue``."""
        finished = await self._programs.ask(issue_question(approved))
        try:
            return self._read(finished, approved.template, approved.enrolment.request_id)
        except NotIssued as error:
            raise Unavailable(error.reason) from None

    async def poll(self, asked: Asked) -> Issued | Wait:
        """Action ``poll``."""
        if not asked.reference and not self.finds:
            raise Unavailable("the CA's program cannot find out what became of a request")
        try:
            finished = await self._programs.ask(poll_question(asked))
            return self._read(finished, asked.template, asked.request_id)
        except OutcomeUnknown as error:
            raise Unavailable(error.reason) from None  # nothing was asked for that could have happened

    async def revoke(self, certificate: x509.Certificate, reason: int) -> None:
        """Action ``revoke``. Raises Unavailable for every exit code but 0."""
        if not self.revokes:
            raise Unavailable("the CA's program does not revoke")
        await self._done(revoke_question(certificate, reason), "has not revoked the certificate")

    async def ping(self) -> None:
        """Action ``ping``. Raises Unavailable for every exit code but 0."""
        await self._done(ping_question(), "says that it cannot issue now")

    def _read(self, finished: Finished, template: Template, request_id: str) -> Issued | Wait:
        clean = self._programs.without_secrets
        return read_answer(finished, spki_der=template.spki_der, request_id=request_id, clean=clean)

    async def _done(self, question: bytes, problem: str) -> None:
        try:
            finished = await self._programs.ask(question)
        except OutcomeUnknown as error:
            raise Unavailable(error.reason) from None
        if finished.exit_code != 0:
            raise Unavailable(f"the CA's program {problem} (exit code {finished.exit_code})")


def _program(settings: CommandCaSettings, services: Services) -> tuple[str, ...]:
    """The command line. Raises ConfigurationError for a program that is not there or cannot be run."""
    path = services.base_dir / settings.program[0]
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        raise ConfigurationError(_where(settings, "program"), f"there is no {shown(path)}") from None
    if not stat.S_ISREG(mode) or not os.access(path, os.X_OK):
        raise ConfigurationError(
            _where(settings, "program"), f"{shown(path)} is not executable; run: chmod u+x {shown(path)}"
        )
    check_permissions(path, services, barred=_WRITABLE_BY_OTHERS)
    return str(path), *settings.program[1:]


def _environment(settings: CommandCaSettings, services: Services) -> dict[str, str]:
    for name in settings.environment:
        if name not in os.environ:
            services.warn(f"{_where(settings, 'environment')}: {name} is not set")
    passed_on = {name: os.environ[name] for name in settings.environment if name in os.environ}
    return {"PATH": os.environ.get("PATH", os.defpath)} | passed_on


def _where(settings: CommandCaSettings, key: str) -> str:
    return f"ca.{settings.id}.{key}" if settings.id else f"ca.{key}"


@asynccontextmanager
async def _open(settings: CommandCaSettings, services: Services) -> AsyncIterator[CommandCa]:
    patience_seconds = services.call_timeout_seconds - settings.timeout
    if patience_seconds <= 0:
        raise ConfigurationError(
            _where(settings, "timeout"),
            f"must be shorter than [plugins] timeout, which is {services.call_timeout_seconds:g} s",
        )
    program = _program(settings, services)
    environment = _environment(settings, services)
    programs = Programs(
        program,
        directory=Path(services.base_dir),
        environment=environment,
        hidden=[value for name, value in environment.items() if name != "PATH"],
        at_once=settings.processes,
        timeout_seconds=settings.timeout,
        # The rest of the call's time, less what it takes to kill and reap.
        patience_seconds=patience_seconds / 2,
    )
    chain = read_chain(services.base_dir / settings.chain, services.clock())
    yield CommandCa(settings, chain, programs)


PROVIDER: Provider[CaBackend] = Provider(name="command", settings=CommandCaSettings, open=_open)

"""How a command reaches the work of administrators: the admin API of a running server, or the store of this machine.

Both are the same routes: over the network with ``--url``, and without it in this process, on the database and, where a
command needs it, the CAs that the configuration names. So each command is written once.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar, cast

import click
import httpx
from quart import Quart

from kipuka_core.cli.common import config_option, read_config
from kipuka_core.config import Config
from kipuka_core.edges import log
from kipuka_core.errors import KipukaError
from kipuka_core.model.administrator import Administrator, Role
from kipuka_core.model.search import PAGE_AT_MOST

ResultT = TypeVar("ResultT")
CommandT = TypeVar("CommandT", bound=Callable[..., Any])

ACTOR = "cli"
"""Who the audit trail names for a command on the store."""
_PATIENCE_SECONDS = 300.0  # a bulk revocation takes its time
_NEXT = re.compile(r'<([^>]+)>; rel="next"')


class AdminRefused(KipukaError):
    """The answer is a refusal; ``code`` is its word, empty where it has none."""

    def __init__(self, text: str, code: str) -> None:
        super().__init__(text)
        self.code = code


class AdminClient:
    """Sends requests to the admin API, wherever that is."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        """The answer, which is none of a refusal. ``path`` is below ``/admin``; of ``query``, None is left out.

        Raises AdminRefused with the sentence of a refusal, and KipukaError when nobody answers.
        """
        params = {name: value for name, value in (query or {}).items() if value is not None}
        try:
            answer = await self._http.request(
                method,
                path if path.startswith("/admin/") else f"/admin/{path}",
                params=params or None,
                json=body,
                headers=headers,
            )
        except (httpx.HTTPError, ssl.SSLError) as error:  # httpx wraps none of an alert
            raise KipukaError(f"{self._http.base_url}: no answer: {_without_answer(error)}") from None
        if answer.is_success:
            return answer
        raise _refusal(answer)

    async def json(self, method: str, path: str, **more: Any) -> Any:
        """The JSON of the answer; None for an answer without a body."""
        answer = await self.request(method, path, **more)
        return answer.json() if answer.content else None

    async def listed(self, path: str, query: Mapping[str, Any], limit: int | None) -> Found:
        """Up to ``limit`` entries (None: all) of a route that pages."""
        return await self.gathered(path, query, limit, lambda answer: answer)

    async def gathered(
        self, path: str, query: Mapping[str, Any], limit: int | None, entries_of: Callable[[Any], list[Any]]
    ) -> Found:
        """The same where the entries are a part of each answer."""
        entries: list[Any] = []
        next_path, params = path, dict(query)
        total = ""
        while True:
            wanted = PAGE_AT_MOST if limit is None else min(PAGE_AT_MOST, limit - len(entries))
            answer = await self.request("GET", next_path, query=params | {"limit": wanted})
            entries += entries_of(answer.json())
            total = total or answer.headers.get("X-Total-Count", "") or str(answer.json()["total"])
            link = _NEXT.search(answer.headers.get("Link", ""))
            if link is None or (limit is not None and len(entries) >= limit):
                return Found(entries, total, has_more=link is not None)
            url = httpx.URL(link[1])
            next_path, params = url.path, dict(url.params)


@dataclass(frozen=True, slots=True)
class Found:
    """What a list holds, and how many there are in all."""

    entries: list[Any]
    total: str
    has_more: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminAccess:
    """What the options of a command say of the way."""

    config_path: Path | None
    url: str | None
    cert: Path | None
    key: Path | None
    cacert: Path | None
    token_file: Path | None
    as_json: bool

    def run(self, work: Callable[[AdminClient], Awaitable[ResultT]], *, needs_cas: bool = False) -> ResultT:
        """Do the work of a command. ``needs_cas``: without ``--url`` it also needs CAs and policies, opened here."""
        log.configure(level=logging.WARNING)

        async def done() -> ResultT:
            async with self._client(needs_cas) as http:
                return await work(AdminClient(http))

        return asyncio.run(done())

    def show(self, value: Any, otherwise: Callable[[], None]) -> None:
        """Print JSON with ``--json``, and what is for people without."""
        if self.as_json:
            click.echo(json.dumps(value, indent=2, ensure_ascii=False))
        else:
            otherwise()

    def config(self) -> Config:
        """The configuration of this machine."""
        return read_config(self.config_path)

    @asynccontextmanager
    async def _client(self, needs_cas: bool) -> AsyncIterator[httpx.AsyncClient]:
        if self.url is not None:
            async with self._over_network(self.url) as client:
                yield client
            return
        if self.cert or self.key or self.cacert or self.token_file:
            raise click.UsageError("--cert, --key, --cacert and --token-file are for --url")
        async with _here(self.config(), needs_cas=needs_cas) as app:
            transport = httpx.ASGITransport(cast("Any", app))
            # No network, so no time-out.
            async with httpx.AsyncClient(transport=transport, base_url="http://kipuka") as client:
                yield client

    def _over_network(self, url: str) -> httpx.AsyncClient:
        if not url.startswith("https://"):
            raise click.UsageError("--url begins with https://")
        headers = {}
        if self.token_file is not None:
            headers["Authorization"] = f"Bearer {_first_line(self.token_file)}"
        return httpx.AsyncClient(
            base_url=url.rstrip("/").removesuffix("/admin"),
            verify=self._tls(),
            headers=headers,
            timeout=_PATIENCE_SECONDS,
            trust_env=False,
        )

    def _tls(self) -> ssl.SSLContext:
        try:
            context = ssl.create_default_context(cafile=None if self.cacert is None else str(self.cacert))
        except (OSError, ssl.SSLError) as error:
            raise KipukaError(f"{self.cacert}: cannot be used as --cacert: {error}") from None
        if self.cert is not None:
            try:
                context.load_cert_chain(self.cert, self.key)
            except (OSError, ssl.SSLError) as error:
                raise KipukaError(f"{self.cert}: cannot be used as --cert with its --key: {error}") from None
        return context


_OPTIONS: Sequence[Callable[[Any], Any]] = (
    config_option,
    click.option(
        "--url",
        envvar="KIPUKA_ADMIN_URL",
        metavar="URL",
        help="The admin API of a server, such as https://kipuka.example:9443 (default: the store of this machine).",
    ),
    click.option(
        "--cert",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="With --url: an administrator's certificate, PEM.",
    ),
    click.option("--key", type=click.Path(path_type=Path), metavar="FILE", help="With --url: its private key, PEM."),
    click.option(
        "--cacert", type=click.Path(path_type=Path), metavar="FILE", help="With --url: who the server's CAs are, PEM."
    ),
    click.option(
        "--token-file", type=click.Path(path_type=Path), metavar="FILE", help="With --url: holds a bearer token."
    ),
    click.option("--json", "as_json", is_flag=True, help="JSON, for programs."),
)


def admin_command(command: CommandT) -> CommandT:
    """Give a command the options of the way to the admin API, and an :class:`AdminAccess` as its first argument."""

    @wraps(command)
    def called(
        *,
        config_path: Path | None,
        url: str | None,
        cert: Path | None,
        key: Path | None,
        cacert: Path | None,
        token_file: Path | None,
        as_json: bool,
        **others: Any,
    ) -> Any:
        access = AdminAccess(
            config_path=config_path,
            url=url,
            cert=cert,
            key=key,
            cacert=cacert,
            token_file=token_file,
            as_json=as_json,
        )
        return command(access, **others)

    for option in reversed(_OPTIONS):
        called = option(called)
    return called  # type: ignore[return-value]  # click keeps the function


@asynccontextmanager
async def _here(config: Config, *, needs_cas: bool) -> AsyncIterator[Quart]:
    """The routes in this process."""
    from kipuka_core.cli.admin_here import app_of_server, app_of_store  # noqa: PLC0415  # not for --help, nor for --url

    async with (app_of_server if needs_cas else app_of_store)(config) as app:
        yield app


LOCAL = Administrator(ACTOR, Role.OPERATOR)


def _first_line(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").partition("\n")[0].strip()
    except OSError as error:
        raise KipukaError(f"{path}: cannot be read as a token: {error.strerror}") from None
    except UnicodeDecodeError:
        raise KipukaError(f"{path}: cannot be read as a token: it is not ASCII") from None


def _without_answer(error: Exception) -> str:
    """Why there was none, and which option to look at where TLS was the reason."""
    text = str(error) or type(error).__name__
    if "CERTIFICATE_VERIFY_FAILED" in text:
        return f"{text}; --cacert has to hold the CA of the server's certificate"
    # A server refuses a client certificate after the handshake of TLS 1.3. Its alert may be lost with the connection.
    if isinstance(error, (ssl.SSLError, httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError)):
        return f"{text}; is --cert by a CA of its [admin.client_auth] trust_anchors? Its log says what failed"
    return text


def _refusal(answer: httpx.Response) -> AdminRefused:
    try:
        said = answer.json()
        return AdminRefused(str(said["message"]), str(said["error"]))
    except (ValueError, KeyError, TypeError):
        return AdminRefused(
            f"{answer.request.url}: answered {answer.status_code} as the admin API does not;"
            " --url is the address of [server] admin_listen",
            "",
        )

"""Calls of Vault in worker threads, with a token that is always good.

hvac is synchronous: everything here that is not a coroutine runs in a thread.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import hvac
import hvac.exceptions
import requests
from requests.adapters import HTTPAdapter

from kipuka_core import ConfigurationError
from kipuka_vault.errors import NoAnswerError, NotReachedError, RefusedError, VaultCallError, of_transport, of_vault

logger = logging.getLogger(__name__)

_MOST_BYTES = 1024 * 1024
_RENEWED_AFTER = 2 / 3
"""Of a token's time."""
_SHORTEST_PAUSE_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class Connected:
    """A client for one call.

    Not kept: a question that meets the end of a kept connection is lost without anybody knowing whether it was read.
    """

    hvac: hvac.Client
    session: requests.Session

    def close(self) -> None:
        """And its connection with it."""
        self.session.close()


Connect = Callable[[], Connected]
Call = Callable[[hvac.Client], Any]
Login = Callable[[hvac.Client], Mapping[str, Any]]
"""Logs in and returns the ``auth`` part of the answer, or what says the same of a token that was there before."""


class VaultAccess:
    """Runs calls of Vault, and keeps its token alive while :meth:`keep_token` runs."""

    def __init__(
        self, connect: Connect, login: Login, run_blocking: Callable[..., Awaitable[Any]], timeout_seconds: float
    ) -> None:
        self._connect = connect
        self._token = ""
        self._login = login
        self._run_blocking = run_blocking
        self._timeout_seconds = timeout_seconds
        self._lock = Lock()
        self._token_number = 0
        self._lease_seconds = 0.0
        self._is_renewable = False

    async def call(self, call: Call) -> Mapping[str, Any]:
        """The JSON answer. A token that Vault does not take (any more) is taken anew, once.

        Raises a VaultCallError.
        """
        try:
            async with asyncio.timeout(self._timeout_seconds):
                answer: Mapping[str, Any] = await self._run_blocking(self._with_token, call)
                return answer
        except TimeoutError as error:
            raise NoAnswerError(f"no answer within {self._timeout_seconds:g} s") from error

    async def keep_token(self) -> None:
        """Renew the token in time, until cancelled; where that does not work, log in again."""
        while True:
            await asyncio.sleep(self._pause_seconds())
            try:
                await self._run_blocking(self._renew)
            except Exception as error:  # noqa: BLE001  # whatever it is: the next call logs in, or says why it cannot
                logger.warning("the token for Vault cannot be renewed now: %s", type(error).__name__)

    def _pause_seconds(self) -> float:
        if not self._lease_seconds:  # not logged in, or a token without an end
            return _LONGEST_PAUSE_SECONDS if self._token_number else _SHORTEST_PAUSE_SECONDS
        return max(_SHORTEST_PAUSE_SECONDS, min(self._lease_seconds * _RENEWED_AFTER, _LONGEST_PAUSE_SECONDS))

    def _with_token(self, call: Call) -> Mapping[str, Any]:
        number = self._token_number
        if not number:
            number = self._log_in(0)
        try:
            return self._ask(call)
        except RefusedError as error:
            if not error.is_permission:
                raise
        self._log_in(number)
        return self._ask(call)

    def _ask(self, call: Call) -> Mapping[str, Any]:
        with closing(self._client()) as client:
            return _answer(client.hvac, call)

    def _client(self) -> Connected:
        connected = self._connect()
        connected.hvac.token = self._token
        return connected

    def _log_in(self, number: int) -> int:
        """Log in, unless another thread has done so since token ``number``."""
        with self._lock:
            if self._token_number == number:
                try:
                    self._take_token()
                except (VaultCallError, ConfigurationError) as error:  # and so nothing was asked for
                    raise NotReachedError(f"kipuka cannot log in: {error}") from error
                self._token_number += 1
            return self._token_number

    def _take_token(self) -> None:
        with closing(self._connect()) as client:
            self._note(_translated(lambda: self._login(client.hvac)))
            self._token = client.hvac.token

    def _renew(self) -> None:
        with self._lock:
            if not self._token_number:
                return
            if self._is_renewable:
                with suppress(VaultCallError):
                    before = self._lease_seconds
                    renewed = self._ask(lambda client: client.auth.token.renew_self())
                    self._note(renewed.get("auth") or {})
                    if self._lease_seconds >= before / 2:
                        return  # shorter: its longest time comes to its end
            number = self._token_number
        self._log_in(number)

    def _note(self, auth: Mapping[str, Any]) -> None:
        lease = auth.get("lease_duration", 0)
        self._lease_seconds = float(lease) if isinstance(lease, int | float) else 0.0
        self._is_renewable = auth.get("renewable") is True


def connect(
    url: str,
    *,
    namespace: str | None,
    verify: bool | Path,
    cert: tuple[str, str] | None,
    timeout_seconds: float,
) -> Connected:
    """A client that follows no redirect, takes nothing from the environment and reads no answer without end."""
    session = requests.Session()
    session.trust_env = False
    session.headers["Connection"] = "close"
    session.verify = str(verify) if isinstance(verify, Path) else verify
    session.cert = cert
    for scheme in ("http://", "https://"):
        session.mount(scheme, _Bounded(timeout_seconds))
    client = hvac.Client(
        url=url,
        token="",  # none; hvac would look into the environment and the home directory
        namespace=namespace or "",
        session=session,
        verify=session.verify,
        cert=cert,
        timeout=(timeout_seconds / 2, timeout_seconds),
        allow_redirects=False,
    )
    return Connected(client, session)


class _Bounded(HTTPAdapter):
    """Reads the whole answer itself, up to a limit of bytes and of time."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._seconds = seconds

    def send(self, request: requests.PreparedRequest, *arguments: Any, **keywords: Any) -> requests.Response:
        deadline = time.monotonic() + self._seconds
        response = super().send(request, *arguments, **(keywords | {"stream": True}))
        content = bytearray()
        for part in response.iter_content(8192):
            content += part
            if len(content) > _MOST_BYTES or time.monotonic() > deadline:
                response.close()
                raise requests.exceptions.ContentDecodingError("the answer is too long, or takes too long")
        response._content = bytes(content)  # noqa: SLF001  # what reading it in requests would do, without the limits
        return response


def _answer(client: hvac.Client, call: Call) -> Mapping[str, Any]:
    answer = _translated(lambda: call(client))
    if isinstance(answer, Mapping):
        return answer
    status = getattr(answer, "status_code", 0)
    if status == 204:
        return {}
    if 300 <= status < 400:
        raise NotReachedError(f"HTTP status {status}: a redirect, which is not followed")
    raise NoAnswerError(f"HTTP status {status}, and an answer that is not Vault's")


def _translated(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except hvac.exceptions.VaultError as error:
        raise of_vault(error) from None  # the original holds the whole answer
    except requests.exceptions.RequestException as error:
        raise of_transport(error) from None
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise NoAnswerError(f"an answer that is not Vault's ({type(error).__name__})") from None

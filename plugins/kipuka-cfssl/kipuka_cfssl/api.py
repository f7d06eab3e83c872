"""CFSSL's API over HTTP: one question, one answer, and what a missing answer means."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Mapping
from typing import Any

import httpx

_PREFIX = "/api/v1/cfssl/"
_MOST_BYTES = 64 * 1024
_MOST_CONNECTIONS = 32
_OUR_CERTIFICATE_REFUSED = (
    "BAD_CERTIFICATE", "CERTIFICATE_REQUIRED", "CERTIFICATE_EXPIRED", "CERTIFICATE_REVOKED", "CERTIFICATE_UNKNOWN",
    "UNSUPPORTED_CERTIFICATE", "UNKNOWN_CA", "ACCESS_DENIED",
)  # fmt: skip
"""With TLS 1.3 the server says so after the client's handshake, in place of reading the request (RFC 8446 4.4.2)."""


class CfsslError(Exception):
    """CFSSL did not do what it was asked for; the text is for the operator."""


class NotReachedError(CfsslError):
    """CFSSL has surely not seen the question."""


class NoAnswerError(CfsslError):
    """CFSSL may have seen the question, and what it did is not known."""


class RefusedError(CfsslError):
    """CFSSL says no. ``code`` is its number (0: it, or something before it, gave none)."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


class CfsslApi:
    """Asks one CFSSL server."""

    def __init__(self, client: httpx.AsyncClient, url: str, timeout_seconds: float) -> None:
        self._client = client
        self._url = url
        self._timeout_seconds = timeout_seconds

    async def ask(self, endpoint: str, question: Mapping[str, Any]) -> Mapping[str, Any]:
        """The ``result`` of an answer of success. Raises one of the three CfsslErrors."""
        request = self._client.build_request("POST", f"{self._url}{_PREFIX}{endpoint}", json=question)
        try:
            async with asyncio.timeout(self._timeout_seconds):
                status, body = await self._answer(request)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol) as error:
            raise NotReachedError(f"{self._url} cannot be reached ({_what(error)})") from error
        except (httpx.HTTPError, OSError, TimeoutError) as error:
            if isinstance(error, ssl.SSLError) and (error.reason or "").endswith(_OUR_CERTIFICATE_REFUSED):
                raise NotReachedError(f"{self._url} does not take the client certificate ({error.reason})") from error
            raise NoAnswerError(f"{self._url} gave no answer to {endpoint} ({_what(error)})") from error
        return _result(endpoint, status, body)

    async def _answer(self, request: httpx.Request) -> tuple[int, bytes]:
        response = await self._client.send(request, stream=True)
        try:
            body = bytearray()
            async for part in response.aiter_bytes():
                body += part
                if len(body) > _MOST_BYTES:
                    raise NoAnswerError(f"the answer is longer than {_MOST_BYTES} bytes")
            return response.status_code, bytes(body)
        finally:
            await response.aclose()


def open_client(context: ssl.SSLContext | bool, timeout_seconds: float) -> httpx.AsyncClient:
    """A client for CFSSL. Each question has a connection of its own.

    On a connection that was kept, a question that meets its end is lost without anybody knowing whether it was read.
    """
    return httpx.AsyncClient(
        verify=context,
        # Waiting for a connection ends first, so that what was never sent is known not to have been.
        timeout=httpx.Timeout(timeout_seconds, pool=timeout_seconds / 2, connect=timeout_seconds / 4),
        limits=httpx.Limits(max_connections=_MOST_CONNECTIONS, max_keepalive_connections=0),
        trust_env=False,
        follow_redirects=False,
    )


def _result(endpoint: str, status: int, body: bytes) -> Mapping[str, Any]:
    try:
        answer = json.loads(body)
    except ValueError:
        answer = None
    if status >= 500:
        raise NoAnswerError(f"{endpoint}: HTTP status {status}{_first_error(answer)[1]}")
    if status >= 300:
        code, text = _first_error(answer)
        raise RefusedError(code, f"{endpoint}: HTTP status {status}{text}")
    if isinstance(answer, dict) and answer.get("success") is True and isinstance(answer.get("result"), dict):
        result: Mapping[str, Any] = answer["result"]
        return result
    raise NoAnswerError(f"{endpoint}: HTTP status {status}, and an answer that is not CFSSL's")


def _first_error(answer: object) -> tuple[int, str]:
    errors = answer.get("errors") if isinstance(answer, dict) else None
    first = errors[0] if isinstance(errors, list) and errors else None
    if not isinstance(first, dict) or not isinstance(first.get("code"), int):
        return 0, ""
    message = "".join(each if each.isprintable() else " " for each in str(first.get("message", ""))[:200])
    return first["code"], f", code {first['code']}: {message}"


def _what(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__

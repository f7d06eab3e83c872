"""HTTP to an ACME CA: TLS always verified, bounded in time and size, no redirects, no proxies, no cookies."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any

import httpx

from kipuka_core import Unavailable

MAX_JSON_BYTES = 64 * 1024
_MOST_CONNECTIONS = 20
_LONGEST_RETRY_SECONDS = 7 * 86400


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer that has been read to its end."""

    status: int
    headers: httpx.Headers
    body: bytes

    def json(self) -> Any:
        """The body as JSON. Raises Unavailable where it is none: nothing is known of what the CA thinks."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            raise no_sense() from None

    @property
    def retry_after_seconds(self) -> int | None:
        """RFC 9110 10.2.3, between one second and a week; None where it is missing or makes no sense."""
        text = self.headers.get("retry-after", "").strip()
        if text.isascii() and text.isdigit():
            return max(1, min(int(text[:9]), _LONGEST_RETRY_SECONDS))
        try:
            moment = parsedate_to_datetime(text)
        except (ValueError, TypeError):
            return None
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return max(1, min(round((moment - datetime.now(UTC)).total_seconds()), _LONGEST_RETRY_SECONDS))


def no_sense() -> Unavailable:
    """For answers that an ACME CA does not give."""
    return Unavailable("the certification authority answers with something that makes no sense")


class Http:
    """Exchanges with the CA, each within ``timeout_seconds`` from connecting to the last byte."""

    def __init__(self, client: httpx.AsyncClient, timeout_seconds: float) -> None:
        self._client = client
        self._timeout_seconds = timeout_seconds

    async def send(
        self,
        method: str,
        url: str,
        *,
        body: bytes | None = None,
        accept: str = "application/json",
        limit_bytes: int = MAX_JSON_BYTES,
    ) -> Answer:
        """Raises Unavailable for whatever is not an HTTP answer of that size, redirects among it."""
        # Compressed bodies have no bound before they are unpacked.
        headers = {"Accept": accept, "Accept-Encoding": "identity"}
        if body is not None:
            headers["Content-Type"] = "application/jose+json"
        try:
            async with asyncio.timeout(self._timeout_seconds):
                request = self._client.build_request(method, url, headers=headers, content=body)
                response = await self._client.send(request, stream=True)
                try:
                    return await _read(response, limit_bytes)
                finally:
                    await response.aclose()
        except TimeoutError as error:
            raise Unavailable("the certification authority does not answer in time") from error
        except httpx.TransportError as error:
            raise Unavailable("the certification authority cannot be reached") from error
        except (httpx.InvalidURL, ValueError) as error:
            raise no_sense() from error


async def _read(response: httpx.Response, limit_bytes: int) -> Answer:
    encoding = response.headers.get("content-encoding", "identity").lower()
    if 300 <= response.status_code < 400 or encoding != "identity":
        raise no_sense()
    body = bytearray()
    async for part in response.aiter_raw():
        body += part
        if len(body) > limit_bytes:
            raise no_sense()
    return Answer(response.status_code, response.headers, bytes(body))


@asynccontextmanager
async def open_http(timeout_seconds: float, trust_anchors_pem: Sequence[bytes]) -> AsyncIterator[Http]:
    """Without ``trust_anchors_pem``: the system's anchors. Raises ValueError for PEM that TLS cannot use."""
    if trust_anchors_pem:
        context = ssl.create_default_context(cadata=b"\n".join(trust_anchors_pem).decode("ascii"))
    else:
        context = ssl.create_default_context()
    client = httpx.AsyncClient(
        verify=context,
        trust_env=False,
        follow_redirects=False,
        timeout=None,  # noqa: S113  # one limit for the whole exchange, in Http.send
        limits=httpx.Limits(max_connections=_MOST_CONNECTIONS, max_keepalive_connections=_MOST_CONNECTIONS),
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        headers={"User-Agent": "kipuka-acme"},
    )
    async with client:
        yield Http(client, timeout_seconds)

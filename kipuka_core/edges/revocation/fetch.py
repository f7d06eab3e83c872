"""HTTP to responders and CRL servers: bounded in time and size, without cookies, proxies and kept connections.

Whoever uses this gets plain functions of a URL, so that httpx is imported only where revocation is checked.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from http.cookiejar import CookieJar, DefaultCookiePolicy
from weakref import WeakValueDictionary

import httpx

from kipuka_core.edges.revocation.crl import MAX_CRL_BYTES
from kipuka_core.edges.revocation.trouble import SourceFailed, shown_url

MAX_OCSP_BYTES = 1024 * 1024
_MAX_REDIRECTS = 3
_MAX_CONNECTIONS = 50
_MAX_CONNECTIONS_PER_HOST = 4
"""One server that hangs must not take the connections that others need."""


class Fetcher:
    """What ``[revocation] timeout`` (seconds) allows for one whole exchange, from name look-up to the last byte."""

    def __init__(self, client: httpx.AsyncClient, timeout_seconds: float) -> None:
        self._client = client
        self._timeout_seconds = timeout_seconds
        self._all = asyncio.Semaphore(_MAX_CONNECTIONS)
        self._by_host: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    async def crl(self, url: str) -> bytes:
        """The body behind a URL, after at most three redirects to http or https. Raises SourceFailed."""
        headers = {"Accept": "application/pkix-crl, */*;q=0.1"}
        return await self._exchange(url, "GET", headers, limit_bytes=MAX_CRL_BYTES, redirects=_MAX_REDIRECTS)

    async def ocsp(self, url: str, request_der: bytes, within_seconds: float) -> bytes:
        """A responder's answer to a request (RFC 6960 A.1); a redirect is no answer. Raises SourceFailed."""
        headers = {"Content-Type": "application/ocsp-request", "Accept": "application/ocsp-response"}
        return await self._exchange(
            url, "POST", headers, limit_bytes=MAX_OCSP_BYTES, content=request_der, within_seconds=within_seconds
        )

    async def _exchange(
        self,
        url: str,
        method: str,
        headers: dict[str, str],
        *,
        limit_bytes: int,
        content: bytes | None = None,
        redirects: int = 0,
        within_seconds: float | None = None,
    ) -> bytes:
        name, seconds = shown_url(url), self._timeout_seconds if within_seconds is None else within_seconds
        # Compressed bodies have no bound before they are unpacked; nothing that is fetched here gains from it.
        headers = {**headers, "Accept-Encoding": "identity"}
        try:
            request = self._client.build_request(method, url, headers=headers, content=content)
            async with self._slot(request.url, name, seconds), asyncio.timeout(seconds):
                return await self._answer(name, request, limit_bytes, redirects)
        except TimeoutError:
            raise SourceFailed(name, f"did not answer within {seconds:g} s", is_away=True) from None
        except httpx.UnsupportedProtocol:
            raise SourceFailed(name, "redirects to what is neither http nor https") from None
        except httpx.TransportError as error:
            problem = str(error) or type(error).__name__
            raise SourceFailed(name, f"cannot be reached: {problem}", is_away=True) from error
        except (httpx.InvalidURL, ValueError) as error:
            raise SourceFailed(name, f"is or gives a URL that cannot be asked: {error}") from error

    @asynccontextmanager
    async def _slot(self, url: httpx.URL, name: str, seconds: float) -> AsyncIterator[None]:
        """Wait until another connection to this host may be opened. Raises SourceFailed, which is not its fault."""
        host = f"{url.host}:{url.port}"
        own = self._by_host.setdefault(host, asyncio.Semaphore(_MAX_CONNECTIONS_PER_HOST))
        async with AsyncExitStack() as slots:
            try:
                async with asyncio.timeout(seconds):
                    await slots.enter_async_context(own)
                    await slots.enter_async_context(self._all)
            except TimeoutError:
                busy = "was not asked, because too many requests wait for answers"
                raise SourceFailed(name, busy, is_ours=True) from None
            yield

    async def _answer(self, name: str, request: httpx.Request, limit_bytes: int, redirects: int) -> bytes:
        for _ in range(redirects + 1):
            # httpx itself would read the whole body of a redirect, however long it is.
            response = await self._client.send(request, stream=True, follow_redirects=False)
            try:
                if response.next_request is None or not redirects:
                    return await _body(name, response, limit_bytes)
                request = response.next_request
            finally:
                await response.aclose()
        raise SourceFailed(name, f"redirects more than {redirects} times")


async def _body(name: str, response: httpx.Response, limit_bytes: int) -> bytes:
    if response.status_code != 200:
        raise SourceFailed(name, f"answers HTTP {response.status_code}", is_away=response.status_code >= 500)
    if response.headers.get("content-encoding", "identity").lower() != "identity":
        raise SourceFailed(name, "answers compressed, which was not asked for")
    body = bytearray()
    async for part in response.aiter_raw():
        body += part
        if len(body) > limit_bytes:
            raise SourceFailed(name, f"answers with more than {limit_bytes} bytes")
    return bytes(body)


@asynccontextmanager
async def open_fetcher(timeout_seconds: float) -> AsyncIterator[Fetcher]:
    """One client for all, closed at the end."""
    client = httpx.AsyncClient(
        # The operating system's CAs, where an operator adds an own one. Environment variables decide nothing here:
        # a proxy or a .netrc would be asked without the configuration saying so.
        verify=ssl.create_default_context(),
        trust_env=False,
        timeout=None,  # noqa: S113  # one limit for the whole exchange, above
        limits=httpx.Limits(max_connections=None, max_keepalive_connections=0),
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        headers={"User-Agent": "kipuka"},
    )
    async with client:
        yield Fetcher(client, timeout_seconds)

"""Signed requests to one ACME CA: its directory, nonces, and problems (RFC 8555 6)."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from kipuka_acme.http import MAX_JSON_BYTES, Answer, Http, no_sense
from kipuka_acme.jws import AccountKey
from kipuka_acme.problems import Problem
from kipuka_acme.shapes import Directory, ProblemDocument

_ATTEMPTS_WITH_A_NONCE = 10
_MOST_NONCES = 50
ShapeT = TypeVar("ShapeT", bound=BaseModel)


class Session:
    """What is shared by all requests of a process. Any number of them at once."""

    def __init__(self, http: Http, directory_url: str, key: AccountKey) -> None:
        self._http = http
        self._directory_url = directory_url
        self._directory: Directory | None = None
        self._nonces: deque[str] = deque(maxlen=_MOST_NONCES)
        self.key = key

    async def directory(self, *, anew: bool = False) -> Directory:
        """RFC 8555 7.1.1; asked for once, and ``anew`` to see that the CA is there. Raises Unavailable or Problem."""
        if self._directory is None or anew:
            answer = await self._http.send("GET", self._directory_url)
            self._directory = shaped(Directory, _checked(answer).json())
        return self._directory

    async def post(
        self,
        url: str,
        payload: Mapping[str, Any] | None,
        *,
        kid: str | None,
        accept: str = "application/json",
        limit_bytes: int = MAX_JSON_BYTES,
    ) -> Answer:
        """A signed POST; ``payload`` None: POST-as-GET (RFC 8555 6.3). ``kid`` None: signed by the key itself.

        Raises Problem for what the CA refuses, and Unavailable where there is no answer.
        """
        body = b"" if payload is None else json.dumps(payload).encode()
        for attempt in range(_ATTEMPTS_WITH_A_NONCE):
            nonce = await self._nonce()
            signed = self.key.sign(url, body, nonce=nonce, kid=kid)
            answer = await self._http.send("POST", url, body=signed, accept=accept, limit_bytes=limit_bytes)
            self._keep_nonce(answer)
            try:
                return _checked(answer)
            except Problem as problem:
                # RFC 8555 6.5: the refusal brings a good one, which may be used up by another request meanwhile.
                if problem.kind != "badNonce" or attempt + 1 == _ATTEMPTS_WITH_A_NONCE:
                    raise
        raise AssertionError  # the loop returns or raises

    async def _nonce(self) -> str:
        if self._nonces:
            return self._nonces.pop()
        answer = _checked(await self._http.send("HEAD", (await self.directory()).new_nonce))
        nonce: str = answer.headers.get("replay-nonce", "")
        if not nonce:
            raise no_sense()
        return nonce

    def _keep_nonce(self, answer: Answer) -> None:
        nonce = answer.headers.get("replay-nonce")
        if nonce:
            self._nonces.append(nonce)


def shaped(shape: type[ShapeT], value: Any) -> ShapeT:
    """Raises Unavailable for what does not have the shape."""
    try:
        return shape.model_validate(value)
    except ValidationError as error:
        raise no_sense() from error


def _checked(answer: Answer) -> Answer:
    """The answer of a request that was done; the body of one that was not is a problem document, or nothing known."""
    if answer.status < 300:
        return answer
    try:
        document = ProblemDocument.model_validate_json(answer.body)
    except ValidationError:
        document = ProblemDocument(detail=f"HTTP {answer.status}")
    raise Problem(document, status=answer.status, retry_after_seconds=answer.retry_after_seconds)

"""The requests of RFC 8555 that kipuka makes once there is an account."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from kipuka_acme.account import Account
from kipuka_acme.http import Answer, no_sense
from kipuka_acme.problems import Problem
from kipuka_acme.session import Session, shaped
from kipuka_acme.shapes import Authorization, Identifier, Located, Order

_UNSPECIFIED, _CERTIFICATE_HOLD = 0, 6


@dataclass(frozen=True, slots=True)
class Seen:
    """An order, and when the CA would like to be asked again."""

    order: Order
    retry_after_seconds: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewOrder:
    """RFC 8555 7.4; ``replaces`` is RFC 9773 5's."""

    identifiers: Sequence[Identifier]
    not_before: datetime | None = None
    not_after: datetime | None = None
    profile: str | None = None
    replaces: str | None = None

    def replacing(self, certificate_id: str) -> NewOrder:
        """The same, with what it replaces."""
        return replace(self, replaces=certificate_id)

    def payload(self) -> dict[str, Any]:
        """As it is sent."""
        times = {"notBefore": self.not_before, "notAfter": self.not_after}
        texts = {"profile": self.profile, "replaces": self.replaces}
        return (
            {"identifiers": [each.model_dump() for each in self.identifiers]}
            | {key: f"{moment:%Y-%m-%dT%H:%M:%SZ}" for key, moment in times.items() if moment is not None}
            | {key: text for key, text in texts.items() if text is not None}
        )


class Client:
    """Each method is one request. Raises Problem for the CA's refusals, Unavailable where there is no answer."""

    def __init__(self, session: Session, account: Account) -> None:
        self._session = session
        self._account = account

    async def new_order(self, wanted: NewOrder) -> str:
        """The URL of the order that the CA has made. An order that is never finalised issues nothing."""
        directory = await self._session.directory()
        answer = await self._account.post(directory.new_order, wanted.payload())
        if answer.status != 201:
            raise no_sense()
        shaped(Order, answer.json())
        return shaped(Located, {"url": answer.headers.get("location", "")}).url

    async def order(self, url: str) -> Seen:
        """An order as it is now."""
        return _seen(await self._account.post(url, None))

    async def authorization(self, url: str) -> Authorization:
        """One of its authorizations."""
        return shaped(Authorization, (await self._account.post(url, None)).json())

    async def begin(self, challenge_url: str) -> None:
        """Tell the CA that a challenge is answered (RFC 8555 7.5.1)."""
        await self._account.post(challenge_url, {})

    async def finalize(self, url: str, csr_der: bytes) -> Seen:
        """Hand in the CSR (RFC 8555 7.4)."""
        return _seen(await self._account.post(url, {"csr": _base64url(csr_der)}))

    async def certificate(self, url: str) -> x509.Certificate:
        """The first of the chain that the CA hands out (RFC 8555 7.4.2)."""
        answer = await self._account.post(url, None, accept="application/pem-certificate-chain")
        try:
            return x509.load_pem_x509_certificates(answer.body)[0]
        except ValueError as error:
            raise no_sense() from error

    async def revoke(self, certificate: x509.Certificate, reason: int) -> None:
        """RFC 8555 7.6, by the account's key. Done already is done."""
        url = (await self._session.directory()).revoke_cert
        payload = {"certificate": _base64url(certificate.public_bytes(Encoding.DER)), "reason": reason}
        try:
            await self._account.post(url, payload)
        except Problem as problem:
            if problem.kind == "badRevocationReason" and reason not in {_UNSPECIFIED, _CERTIFICATE_HOLD}:
                # That it is revoked matters more than the word for it; but a hold is no revocation for ever.
                await self.revoke(certificate, _UNSPECIFIED)
            elif problem.kind != "alreadyRevoked":
                raise


def _seen(answer: Answer) -> Seen:
    return Seen(shaped(Order, answer.json()), answer.retry_after_seconds)


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

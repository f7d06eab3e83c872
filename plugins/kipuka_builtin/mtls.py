"""Authenticator ``mtls``: the client certificate of the TLS connection (RFC 7030 3.3.2)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Annotated

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.x509.oid import ExtendedKeyUsageOID
from pydantic import BeforeValidator, Field

from kipuka_core import (
    Authenticator,
    ClientIdentity,
    ConfigurationError,
    NotAllowed,
    NotAuthenticated,
    Offer,
    Provider,
    Services,
    Settings,
    issued_by,
)
from kipuka_core.hooks.secret_files import read_file, shown
from kipuka_core.model.entity_id import entity_id_problem
from kipuka_core.model.fingerprints import issuer_key_id, public_key_id, serial_hex
from kipuka_core.model.names import common_names, general_name_text, held_names, san_of
from kipuka_core.model.record import CertificateStatus, RecordedCertificate

_CLIENT_EKUS = frozenset({ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE})


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str | Path) else value


class MtlsSettings(Settings):
    """The entity id is the one that a certificate on record was issued to; of any other it is its CN or first SAN."""

    anchors: Annotated[tuple[Path, ...], BeforeValidator(_as_list), Field(min_length=1)] | None = Field(
        default=None,
        description="PEM files: whose certificates' names count as identities. Default: every one in "
        "[tls.client_auth] trust_anchors, and what the own CAs issued.",
    )


@dataclass(frozen=True, slots=True)
class _Facts:
    """What a client certificate says, worked out once for all requests that present it."""

    problem: str | None
    """Why it cannot identify a client, whoever issued it; None when it can."""
    not_before: datetime
    not_after: datetime
    entity_id: str
    names: frozenset[str]


class _Trust:
    """Whose certificates count: anchors for anything below them, own issuers for what they issued themselves.

    Own issuers include the CAs above the issuing one. What those others issued is not trusted for that: only an
    operator who lists such a CA among the anchors says so.
    """

    def __init__(
        self, anchors: frozenset[x509.Certificate], own: Sequence[x509.Certificate], *, own_count: bool
    ) -> None:
        self._anchors = anchors
        self._own = own
        self._own_key_ids = frozenset(map(issuer_key_id, own))
        self._own_count = own_count

    def anchored(self, chain: Sequence[x509.Certificate]) -> bool:
        """Whether a certificate of the chain is an anchor."""
        return any(certificate in self._anchors for certificate in chain)

    def own_in(self, chain: Sequence[x509.Certificate]) -> bool:
        """Whether the chain runs through an own issuer, and those count."""
        return self._own_count and any(public_key_id(issuer) in self._own_key_ids for issuer in chain[1:])

    def issuer_key_id(self, chain: Sequence[x509.Certificate]) -> str | None:
        """The key that signed the leaf; None for a leaf that is an anchor itself and by no own CA."""
        if len(chain) > 1:
            return issuer_key_id(chain[1])
        return next((issuer_key_id(issuer) for issuer in self._own if issued_by(issuer, chain[0])), None)

    def is_own(self, key_id: str | None) -> bool:
        """Whether this key is one of an own CA."""
        return key_id in self._own_key_ids


class MtlsAuthenticator(Authenticator):
    """Believes the names of a certificate that an anchor or an own CA vouches for.

    TLS verified the chain and that the client has the key. What an identity needs beyond that is checked here, on
    every request: a kept or resumed connection has no more rights than a fresh one (invariant 9).
    """

    def __init__(self, anchors: frozenset[x509.Certificate] | None, services: Services) -> None:
        self._configured_anchors = anchors
        self._services = services
        self._trust_made_of: tuple[tuple[x509.Certificate, ...], ...] = ()
        self._trust = self._make_trust()

    async def authenticate(self, offer: Offer) -> ClientIdentity | None:
        """The entity that the certificate was issued to, as recorded, else as the certificate names it.

        None for no certificate and for one that nobody in ``anchors`` vouches for. Raises NotAuthenticated for one
        that is out of time, not made for clients, revoked, or by an own CA and unknown to the store, and NotAllowed
        (``other_label``) for one that was issued at another label.
        """
        chain = offer.connection.client_chain
        if not chain:
            return None
        trust = self._current_trust()
        anchored = trust.anchored(chain)
        if not anchored and not trust.own_in(chain):
            return None
        facts = _facts_of(chain[0])
        _check_usable(facts, offer.time)
        key_id = trust.issuer_key_id(chain)
        record = await self._services.store.find_certificate(key_id, serial_hex(chain[0])) if key_id else None
        if record is not None:
            _check_record(record, offer)
        elif trust.is_own(key_id):
            self._check_unrecorded()
        elif not anchored:
            return None
        return ClientIdentity(
            authenticator=PROVIDER.name,
            entity_id=record.entity_id if record else facts.entity_id,
            names=facts.names,
            certificate=chain[0],
        )

    def _check_unrecorded(self) -> None:
        if not self._services.accept_unrecorded:
            raise NotAuthenticated(
                "this server's CA issued the client certificate, but there is no record of it; "
                "enrol again, or ask the operator to accept unrecorded certificates",
                code="certificate_unrecorded",
            )

    def _current_trust(self) -> _Trust:
        if self._sources() != self._trust_made_of:  # a CA was rolled over, or the anchors were read again
            self._trust = self._make_trust()
        return self._trust

    def _sources(self) -> tuple[tuple[x509.Certificate, ...], ...]:
        return tuple(self._services.own_issuers()), tuple(self._services.client_anchors)

    def _make_trust(self) -> _Trust:
        own, client_anchors = self._trust_made_of = self._sources()
        if self._configured_anchors is not None:
            return _Trust(self._configured_anchors, own, own_count=False)
        return _Trust(frozenset(client_anchors), own, own_count=True)


def _check_usable(facts: _Facts, now: datetime) -> None:
    if facts.problem:
        raise NotAuthenticated(f"the client certificate cannot be used: {facts.problem}", code="certificate_unusable")
    if now < facts.not_before:
        raise NotAuthenticated("the client certificate is not valid yet", code="certificate_not_yet_valid")
    if now > facts.not_after:
        raise NotAuthenticated("the client certificate has expired; enrol again", code="certificate_expired")


def _check_record(record: RecordedCertificate, offer: Offer) -> None:
    if record.status is not CertificateStatus.ACTIVE:
        raise NotAuthenticated("the client certificate is revoked", code="certificate_revoked")
    if record.label != offer.label.name and record.label not in offer.label.accept_from:
        raise NotAllowed("the client certificate was issued at another label", code="other_label")


@lru_cache(maxsize=1024)
def _facts_of(certificate: x509.Certificate) -> _Facts:
    try:
        problem = _usage_problem(certificate.extensions)
        names, entity_id = held_names(certificate), entity_id_of(certificate)
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType, UnsupportedAlgorithm):
        problem, names, entity_id = "it is not a well-formed X.509 certificate", frozenset(), ""
    return _Facts(
        problem=problem,
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        entity_id=entity_id,
        names=names,
    )


def _usage_problem(extensions: x509.Extensions) -> str | None:
    """Why the extensions forbid client authentication (RFC 5280 4.2.1.3, 4.2.1.9, 4.2.1.12)."""
    values = {type(extension.value): extension.value for extension in extensions}
    match values.get(x509.BasicConstraints):
        case x509.BasicConstraints(ca=True):
            return "it is a CA certificate"
    match values.get(x509.KeyUsage):
        case x509.KeyUsage(digital_signature=False):
            return "its key usage lacks digitalSignature"
    match values.get(x509.ExtendedKeyUsage):
        case x509.ExtendedKeyUsage() as purposes if _CLIENT_EKUS.isdisjoint(purposes):
            return "its extended key usage lacks clientAuth"
    return None


def entity_id_of(certificate: x509.Certificate) -> str:
    """The entity id of a certificate that no record names: its first CN, else its first SAN entry, that can be one.

    A name with a colon (a URI, a MAC address) cannot be an entity id. It is passed over, not rewritten: any rewriting
    could turn it into the name of another device. A certificate with no usable name is known by its key, as
    ``key-sha256-`` and hex. The names passed over still are names that the identity holds.
    """
    candidates = (*common_names(certificate.subject), *map(general_name_text, san_of(certificate) or ()))
    usable = (name for name in candidates if entity_id_problem(name) is None)
    return next(usable, None) or f"key-sha256-{public_key_id(certificate)}"


def load_anchors(paths: Sequence[Path]) -> frozenset[x509.Certificate]:
    """Every certificate of these PEM files. Raises ConfigurationError for a file that holds none."""
    anchors: set[x509.Certificate] = set()
    for path in paths:
        try:
            anchors.update(x509.load_pem_x509_certificates(read_file(path)))
        except ValueError:
            raise ConfigurationError(shown(path), "holds no certificate in PEM, or a damaged one") from None
    return frozenset(anchors)


@asynccontextmanager
async def _open(settings: MtlsSettings, services: Services) -> AsyncIterator[Authenticator]:
    anchors = None
    if settings.anchors is not None:
        anchors = load_anchors([services.base_dir / path for path in settings.anchors])
    yield MtlsAuthenticator(anchors, services)


PROVIDER: Provider[Authenticator] = Provider("mtls", MtlsSettings, _open)

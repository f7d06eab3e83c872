"""Who is an administrator: a pure rule over a client certificate that TLS has verified, without HTTP and store.

An enrolment certificate is never an admin credential, whatever the anchors of the admin listener say: it counts who
signed the certificate itself, and that must be a CA for administrators and no issuer of a ``[[ca]]``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.x509.oid import ExtendedKeyUsageOID

from kipuka_core.errors import NotAllowed, NotAuthenticated
from kipuka_core.model.administrator import Administrator as Administrator  # noqa: PLC0414  # part of this room's face
from kipuka_core.model.administrator import Role as Role  # noqa: PLC0414
from kipuka_core.model.fingerprints import public_key_id, serial_hex
from kipuka_core.model.names import same_subject

Certificates = Callable[[], Sequence[x509.Certificate]]
_MAX_NAME_LENGTH = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminRule:
    """``[admin.client_auth]``, ``operators`` and ``viewers`` of ``[admin]``.

    ``anchors`` and ``own_issuers`` are asked on every request: a connection that was opened before a reload has no more
    rights than a new one. ``own_issuers`` are all certificates of every ``[[ca]]``: chain, previous ones, roots.
    """

    anchors: Certificates
    own_issuers: Certificates
    operators: tuple[x509.Name, ...] = ()
    viewers: tuple[x509.Name, ...] = ()

    def administrator(self, chain: Sequence[x509.Certificate], now: datetime) -> Administrator:
        """The administrator whose certificate this is; ``chain`` is verified, leaf first, ``now`` is aware.

        Raises NotAuthenticated for a certificate that is no admin credential, NotAllowed for a good one whose subject
        is in neither list. What cannot be read is no credential.
        """
        if not chain:
            raise NotAuthenticated(
                "this needs the credential of an administrator: a client certificate or a bearer token",
                code="no_credential",
            )
        try:
            return self._administrator(chain, now)
        except (ValueError, UnsupportedAlgorithm, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
            raise NotAuthenticated("the client certificate cannot be read", code="unreadable_certificate") from None

    def _administrator(self, chain: Sequence[x509.Certificate], now: datetime) -> Administrator:
        leaf = chain[0]
        _check_leaf(leaf, now)
        if len(chain) < 2:
            # A leaf that is an anchor itself. Nobody signed it whom an operator named, so it could not be taken back.
            raise NotAuthenticated("the client certificate is its own trust anchor", code="no_issuer")
        self._check_issuer(chain[1], now)
        name = _name(leaf)
        role = self._role(leaf.subject)
        if role is None:
            refusal = NotAllowed("the subject of the client certificate is neither an operator's nor a viewer's")
            refusal.code, refusal.actor = "not_listed", name
            raise refusal
        return Administrator(name, role)

    def _check_issuer(self, issuer: x509.Certificate, now: datetime) -> None:
        key_id = public_key_id(issuer)
        # By key alone: an own CA renewed, cross-signed or under another name is an own CA.
        if key_id in _key_ids(self.own_issuers()):
            raise NotAuthenticated(
                "the client certificate was issued by a CA that enrols devices: it is no admin credential",
                code="enrolment_certificate",
            )
        # By key and name: an anchor renewed around the same key is the same CA, also on a connection from before.
        # Nothing else can be taken for it, because this key verified the leaf's signature.
        if not any(
            anchor.subject == issuer.subject and _in_time(anchor, now) and key_id in _key_ids((anchor,))
            for anchor in self.anchors()
        ):
            raise NotAuthenticated(
                "the direct issuer of the client certificate is not among admin.client_auth.trust_anchors",
                code="unknown_issuer",
            )

    def _role(self, subject: x509.Name) -> Role | None:
        if not self.operators and not self.viewers:
            return Role.OPERATOR
        if _listed(subject, self.operators):
            return Role.OPERATOR
        return Role.VIEWER if _listed(subject, self.viewers) else None


def idle_anchors(anchors: Iterable[x509.Certificate], own_issuers: Iterable[x509.Certificate]) -> list[str]:
    """Anchors of the admin listener below which nobody can be an administrator, one warning each."""
    own = _key_ids(own_issuers)
    return [
        f"admin.client_auth.trust_anchors: {anchor.subject.rfc4514_string()} is an issuer of a [[ca]], so what it signs"
        " is no admin credential; use a CA for administrators"
        for anchor in dict.fromkeys(anchors)
        if not own.isdisjoint(_key_ids((anchor,)))
    ]


def _check_leaf(leaf: x509.Certificate, now: datetime) -> None:
    if not _in_time(leaf, now):
        raise NotAuthenticated("the client certificate is not valid now", code="not_in_time")
    for extension in leaf.extensions:
        value = extension.value
        if isinstance(value, x509.BasicConstraints) and value.ca:
            raise NotAuthenticated("the client certificate is that of a CA", code="ca_certificate")
        if isinstance(value, x509.ExtendedKeyUsage) and ExtendedKeyUsageOID.CLIENT_AUTH not in value:
            raise NotAuthenticated(
                "the client certificate is not for client authentication (extended key usage clientAuth)",
                code="not_for_clients",
            )


def _in_time(certificate: x509.Certificate, now: datetime) -> bool:
    return certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc


def _key_ids(certificates: Iterable[x509.Certificate]) -> set[str]:
    """The keys of these certificates. One of an unknown kind is left out: no client certificate verifies under it."""
    found = set()
    for certificate in certificates:
        try:
            found.add(public_key_id(certificate))
        except (ValueError, UnsupportedAlgorithm):
            continue
    return found


def _listed(subject: x509.Name, names: tuple[x509.Name, ...]) -> bool:
    return any(same_subject(subject, name) for name in names)


def _name(leaf: x509.Certificate) -> str:
    name = leaf.subject.rfc4514_string() or f"serial {serial_hex(leaf)}"
    return name if len(name) <= _MAX_NAME_LENGTH else f"{name[:_MAX_NAME_LENGTH]}…"

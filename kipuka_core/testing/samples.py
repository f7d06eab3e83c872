"""Sample values of the model, each with every field settable: what a test does not care about has a default."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from kipuka_core.model.certificate import Template
from kipuka_core.model.enrolment import Enrolment
from kipuka_core.model.identity import BasicCredentials, ClientIdentity, Offer
from kipuka_core.model.key_type import KeyType
from kipuka_core.model.label import EnrollmentRules, Label
from kipuka_core.model.request import Connection, Csr, Operation

NOW = datetime(2030, 1, 1, 12, 0, tzinfo=UTC)


def sample_label(name: str = "", **rules: Any) -> Label:
    """A label on the CA ``default``; keyword arguments are fields of its rules."""
    return Label(name=name, ca_id="default", rules=EnrollmentRules(**rules), auth_order=(("mtls",), ("otp",)))


def sample_csr(csr_der: bytes, **fields: Any) -> Csr:
    """A decoded CSR from DER, without the checks of the wire room."""
    csr = x509.load_der_x509_csr(csr_der)
    spki = csr.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    values: dict[str, Any] = {
        "der": csr_der,
        "subject": csr.subject,
        "public_key": csr.public_key(),
        "spki_der": spki,
        "signature_hash": csr.signature_hash_algorithm.name if csr.signature_hash_algorithm else None,
        "signature_algorithm_oid": csr.signature_algorithm_oid.dotted_string,
        "extensions": tuple(csr.extensions),
        "fingerprint": "0" * 64,
    }
    return Csr(**(values | fields))


def sample_connection(*client_chain: x509.Certificate, **fields: Any) -> Connection:
    """A TLS 1.3 connection from a documentation address."""
    return Connection(source_address="192.0.2.7", tls_version="TLSv1.3", client_chain=client_chain, **fields)


def sample_offer(
    *client_chain: x509.Certificate,
    username: str | None = None,
    password: str = "",
    csr: Csr | None = None,
    label: Label | None = None,
    operation: Operation = Operation.SIMPLEENROLL,
    time: datetime = NOW,
) -> Offer:
    """An offer: a client certificate chain, or HTTP Basic credentials, or both, or neither."""

    def read_csr() -> Csr:
        if csr is None:
            raise AssertionError("this test did not expect the CSR to be read")
        return csr

    credentials = None if username is None else BasicCredentials(username, password)
    return Offer(
        operation=operation,
        label=label or sample_label(),
        connection=sample_connection(*client_chain),
        credentials=credentials,
        read_csr=read_csr,
        time=time,
    )


def sample_enrolment(
    csr: Csr,
    *,
    identity: ClientIdentity | None = None,
    label: Label | None = None,
    time: datetime = NOW,
    renewing: x509.Certificate | None = None,
) -> Enrolment:
    """A simpleenroll of the device ``device``, or the simplereenroll of the certificate ``renewing``."""
    return Enrolment(
        request_id="0123456789abcdef",
        operation=Operation.SIMPLEENROLL if renewing is None else Operation.SIMPLEREENROLL,
        label=label or sample_label(),
        identity=identity or ClientIdentity(authenticator="otp", entity_id="device"),
        csr=csr,
        connection=sample_connection() if renewing is None else sample_connection(renewing),
        time=time,
        renewing=renewing,
    )


def sample_template(csr: Csr, **fields: Any) -> Template:
    """The template that the core makes of a CSR before any policy shapes it."""
    values: dict[str, Any] = {
        "subject": csr.subject,
        "spki_der": csr.spki_der,
        "san": csr.san or (),
        "key_usage": frozenset({"digitalSignature"}),
        "ext_key_usage": ("1.3.6.1.5.5.7.3.2",),
        "not_before": NOW - timedelta(minutes=5),
        "not_after": NOW + timedelta(days=365),
    }
    return Template(**(values | fields))


def all_key_types() -> tuple[str, ...]:
    """Every key type that ``kipuka.toml`` can name."""
    return tuple(KeyType)


def write_private(path: Path, content: bytes) -> Path:
    """Write a key file that only its owner can read."""
    path.write_bytes(content)
    path.chmod(0o600)
    return path

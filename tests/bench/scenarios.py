"""What is measured, and the cryptography that belongs to it."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path

from kipuka_core.model.key_type import KeyType
from kipuka_core.testing.client import write_leaf
from kipuka_core.testing.pki import Leaf, make_csr, make_key
from kipuka_core.testing.server import Deployment
from tests.bench.floor import BareIssuer, BareServer, ClientFiles, issued_certificate

USER, PASSWORD = "load", "load-password"
OTP_LABEL = "otp"
KEPT_AT_MOST, NEW_AT_MOST = 4.0, 4.5
"""The aim: server CPU as a multiple of the bare cryptography, on kept and on new connections."""

_DEVICES = 16
_CACERTS_REQUEST = b"GET /.well-known/est/cacerts HTTP/1.1\r\nHost: localhost\r\nUser-Agent: bench\r\n\r\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One row of the table."""

    name: str
    key_type: KeyType
    operation: str = "simpleenroll"
    keep_alive: bool
    one_time: bool = False

    @property
    def renews(self) -> bool:
        """Whether devices present the certificate that they renew."""
        return self.operation == "simplereenroll"

    @property
    def aim(self) -> float | None:
        """At most so many times the bare cryptography; None where there is none to speak of."""
        if self.operation == "cacerts":
            return None
        return KEPT_AT_MOST if self.keep_alive else NEW_AT_MOST

    def flags(self, token: str, run: str, different_csrs: int) -> list[str]:
        """What the generator is told; ``run`` makes the names of a run its own, for passwords that replay."""
        flags = ["-op", self.operation, "-keytype", "rsa" if self.key_type is KeyType.RSA2048 else "ec"]
        if self.keep_alive:
            flags.append("-keepalive")
        if self.renews:
            return [*flags, "-bootstrap", str(_DEVICES), "-nobasic-in-run", "-user", USER, "-pass", PASSWORD]
        if self.one_time:
            # Each CSR once: the same one with the same password would only get its certificate again.
            names = ["-pool", str(different_csrs), "-cn", f"{run}-%d.example"]
            return [*flags, *names, "-label", OTP_LABEL, "-user", USER, "-pass", token]
        return [*flags, "-pool", str(_DEVICES), "-user", USER, "-pass", PASSWORD]


def scenarios(key_type: KeyType) -> tuple[Scenario, ...]:
    """The rows of one key type, which server certificate, CA and CSRs share."""
    named = "P-256" if key_type is KeyType.ECDSA256 else "RSA-2048"
    enrol = tuple(
        Scenario(name=f"enrol {named}, {how}", key_type=key_type, keep_alive=kept)
        for how, kept in (("kept connection", True), ("new connection", False))
    )
    if key_type is not KeyType.ECDSA256:
        return enrol
    renew = tuple(
        Scenario(name=f"re-enrol mTLS, {how}", key_type=key_type, operation="simplereenroll", keep_alive=kept)
        for how, kept in (("kept connection", True), ("new connection", False))
    )
    one_time = Scenario(name="enrol with OTP, kept connection", key_type=key_type, keep_alive=True, one_time=True)
    cacerts = Scenario(name="cacerts, kept connection", key_type=key_type, operation="cacerts", keep_alive=True)
    return (*enrol, *renew, one_time, cacerts)


class Floor:
    """The bare cryptography of every scenario of one deployment."""

    def __init__(self, deployment: Deployment, key_type: KeyType) -> None:
        self._server = BareServer(deployment.directory)
        key = make_key(key_type)
        self._bodies = [
            base64.encodebytes(make_csr(key, f"floor-{n}.example", [f"dns:floor-{n}.example"])) for n in range(8)
        ]
        self._client = _client_certificate(self._server.issuer, deployment.directory)

    def milliseconds(self, scenario: Scenario, seconds: float) -> float:
        """CPU time of one request's cryptography; to be called on the server's core."""
        if scenario.operation == "cacerts":
            return self._server.cacerts_ms(_CACERTS_REQUEST, seconds)
        issuing = self._server.enrol_ms(self._bodies, seconds / 2)
        if scenario.keep_alive:
            return issuing
        return issuing + self._server.handshake_ms(seconds / 2, self._client if scenario.renews else None)


def _client_certificate(issuer: BareIssuer, directory: Path) -> ClientFiles:
    key = make_key()
    answer = issuer.enrol(base64.encodebytes(make_csr(key, "client.example", ["dns:client.example"])))
    return ClientFiles(*write_leaf(Leaf(issued_certificate(answer), key), directory))

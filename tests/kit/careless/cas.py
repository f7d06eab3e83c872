"""Mistakes of CA backends: what they return never leaves."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from kipuka_core import Approved, CaChain, Issued, Wait
from kipuka_core.testing.pki import make_key
from tests.kit.careless.sound import HIDDEN, ROOT, SoundCa
from tests.kit.careless.table import AtRequest, AtStart, Careless, Contract, Unseen

_CERTIFIES = "test_it_certifies_every_key_type_as_approved"
_CHAIN = "test_its_chain_leads_from_the_issuer_to_the_root"


class _Issues(SoundCa):
    """Answers with something that it makes of the right certificate."""

    def __init__(self, answer: Callable[[x509.Certificate], Any]) -> None:
        super().__init__()
        self.answer = answer

    async def issue(self, approved: Approved) -> Any:
        return self.answer((await super().issue(approved)).certificate)


class _Signs(SoundCa):
    """Signs something else than what was approved."""

    def __init__(self, **changes: Any) -> None:
        super().__init__()
        self.changes = changes

    async def issue(self, approved: Approved) -> Issued:
        return Issued(self.signing.sign(approved, **self.changes))


class _Raises(SoundCa):
    async def issue(self, approved: Approved) -> Issued:
        raise ConnectionError(HIDDEN)


class _CallsExit(SoundCa):
    async def issue(self, approved: Approved) -> Issued:
        sys.exit(1)


class _KeepsTheRequest(SoundCa):
    async def issue(self, approved: Approved) -> Issued:
        self.approved = approved
        await asyncio.sleep(0)
        return await super().issue(self.approved)


class _Chains(SoundCa):
    def __init__(self, chain: Callable[[], Any]) -> None:
        super().__init__()
        self.answer = chain

    async def chain(self) -> Any:
        return self.answer()


class _SetsNothing(SoundCa):
    @property
    def may_set(self) -> Any:
        return None


def _another_key() -> bytes:
    return make_key().public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _row(mistake: str, make: Callable[[], object], says: str, contract_says: str = "") -> Careless:
    return Careless(
        mistake=mistake,
        kind="ca_backend",
        port=make,
        contract=Contract(test=_CERTIFIES, says=contract_says or says),
        server=AtRequest(status=500, logs=says),
    )


def _at_start(mistake: str, make: Callable[[], object], says: str, test: str = _CHAIN) -> Careless:
    return Careless(
        mistake=mistake,
        kind="ca_backend",
        port=make,
        contract=Contract(test=test, says=says),
        server=AtStart(says=says),
    )


ROWS = [
    _row(
        "issue returns None",
        lambda: _Issues(lambda _: None),
        "_Issues.issue answered with None; it has to answer with Issued",
    ),
    _row(
        "issue returns a certificate without Issued",
        lambda: _Issues(lambda certificate: certificate),
        "_Issues.issue answered with Certificate; it has to answer with Issued",
    ),
    _row(
        "issue returns PEM",
        lambda: _Issues(lambda certificate: certificate.public_bytes(Encoding.PEM)),
        "_Issues.issue answered with bytes; it has to answer with Issued",
    ),
    _row(
        "issue returns PEM in Issued",
        lambda: _Issues(lambda certificate: Issued(certificate.public_bytes(Encoding.PEM))),  # type: ignore[arg-type]
        "_Issues.issue answered with Issued whose certificate is a bytes; give an x509.Certificate",
    ),
    _row(
        "issue lets the client wait in this process",
        lambda: _Issues(lambda _: Wait("later", 5, "reference")),
        "_Issues.issue answered with Wait; it has to answer with Issued",
        "issue answers with Wait: a CA whose requests can wait is outside of this process, external = True",
    ),
    _row(
        "issue signs another key",
        lambda: _Signs(spki_der=_another_key()),
        "it holds another public key; issue has to return what approved.template says",
        "it holds another key than the approved one: sign template.spki_der",
    ),
    _row(
        "issue makes a CA of a device",
        lambda: _Signs(ca=True),
        "it is a CA certificate; issue has to return what approved.template says",
        "it is a CA certificate",
    ),
    _row(
        "issue adds a name",
        lambda: _Signs(san=(x509.DNSName("admin.example"),)),
        "it has another SubjectAltName; issue has to return what approved.template says",
        "its SubjectAltName is not the approved one",
    ),
    _row(
        "issue signs with another key than that of the chain",
        lambda: _Signs(key=make_key()),
        "it is not signed by the CA; issue has to return what approved.template says",
        "it is not signed by approved.issuer, the first of chain()",
    ),
    Careless(
        mistake="issue keeps the request in itself",
        kind="ca_backend",
        port=_KeepsTheRequest,
        contract=Contract(test="test_concurrent_requests_get_certificates_of_their_own", says="approved one"),
        server=Unseen(because="alone nothing is mixed; a certificate for another request is one that was not approved"),
    ),
    _row("issue raises", _Raises, "_Raises.issue raised ConnectionError in line"),
    _row("issue calls sys.exit()", _CallsExit, "_CallsExit.issue raised SystemExit in line"),
    _at_start(
        "the chain is empty",
        lambda: _Chains(lambda: CaChain(certificates=())),
        "_Chains.chain answered with CaChain whose certificates are empty; give those from the issuing one up to",
    ),
    _at_start(
        "the chain is a list",
        lambda: _Chains(lambda: list(ROOT.chain)),
        "_Chains.chain answered with list; it has to answer with CaChain",
    ),
    _at_start(
        "the chain holds PEM",
        lambda: _Chains(lambda: CaChain(certificates=(ROOT.pem,))),  # type: ignore[arg-type]
        "_Chains.chain answered with CaChain whose certificates are no tuple of x509.Certificate",
    ),
    _at_start(
        "the chain raises", lambda: _Chains(lambda: dict[str, Any]()["chain"]), "_Chains.chain raised KeyError in line"
    ),
    _at_start(
        "may_set is None",
        _SetsNothing,
        "says may_set = NoneType; it has to be CaProfile",
        "test_it_opens_a_port_with_coroutine_methods",
    ),
]

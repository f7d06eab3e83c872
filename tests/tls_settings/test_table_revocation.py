"""Setting x value -> what a client sees from outside, for every key of ``[revocation]``.

A row fails when its key has no effect. Clients come in mode required, where a certificate that does not count gets no
answer at all, but for ``accept_unrecorded``, which is about renewals.
"""

from __future__ import annotations

import base64
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.x509 import ocsp

from kipuka_core.config.sections.revocation import Revocation
from kipuka_core.testing.pki import Authority, Leaf, make_csr
from kipuka_core.testing.server import Deployment, RunningServer, running_server, wait_until
from tests.edges.revocation.revocation_kit import (
    Responding,
    Site,
    crl_der,
    http_site,
    points,
    responder_leaf,
    responders,
)
from tests.startup.starting import check
from tests.tls_settings.settings_kit import (
    DEVICE_CA,
    NO_CONNECTION,
    Row,
    client_context,
    connection,
    look,
    make_site,
)

pytestmark = pytest.mark.long

LISTED, UNLISTED = DEVICE_CA.leaf("listed"), DEVICE_CA.leaf("unlisted")
RESPONDER = responder_leaf(DEVICE_CA)
REQUIRED = {"tls.client_auth.mode": '"required"', "tls.client_auth.trust_anchors": '"issuing.pem"'}


@dataclass
class World:
    """A running server, the site where CRLs and answers are, and the responder's answers."""

    server: RunningServer
    site: Site

    @property
    def directory(self) -> Path:
        return self.server.deployment.directory

    def status(self, leaf: Leaf) -> int | str:
        """Of ``/cacerts``, by a new connection."""
        seen = look(self.server.est_port, client_context(self.directory, leaf))
        return seen if isinstance(seen, str) else seen.status

    def leaf(self, name: str, *, responder: str = "", crl: str = "") -> Leaf:
        """A certificate that names a responder or a CRL on the site."""
        more = [responders(self.site.url(responder))] if responder else []
        more += [points(self.site.url(crl))] if crl else []
        return DEVICE_CA.leaf(name, more_extensions=more)

    def answers(self, path: str, leaf: Leaf, status: ocsp.OCSPCertStatus) -> None:
        responding = Responding(authority=DEVICE_CA, signer=RESPONDER, status=status)
        self.site.pages[path] = lambda body: responding.answer(leaf.certificate, body)


# -- what clients see --------------------------------------------------------------------------------------------------
def in_the_crl_it_names(world: World) -> int | str:
    leaf = world.leaf("in its CRL", crl="/own.crl")
    world.site.pages["/own.crl"] = crl_der(DEVICE_CA, leaf)
    return world.status(leaf)


def not_in_the_crl_it_names(world: World) -> int | str:
    world.site.pages["/own.crl"] = crl_der(DEVICE_CA, LISTED)
    return world.status(world.leaf("not in its CRL", crl="/own.crl"))


def good_by_the_responder_it_names(world: World) -> int | str:
    leaf = world.leaf("good", responder="/named")
    world.answers("/named", leaf, ocsp.OCSPCertStatus.GOOD)
    return world.status(leaf)


def revoked_by_the_responder_it_names(world: World) -> int | str:
    leaf = world.leaf("revoked", responder="/named")
    world.answers("/named", leaf, ocsp.OCSPCertStatus.REVOKED)
    return world.status(leaf)


def good_by_the_responder_it_names_and_revoked_by_the_other(world: World) -> int | str:
    leaf = world.leaf("torn", responder="/named")
    world.answers("/named", leaf, ocsp.OCSPCertStatus.GOOD)
    world.answers("/fixed", leaf, ocsp.OCSPCertStatus.REVOKED)
    return world.status(leaf)


def names_no_responder(world: World) -> int | str:
    leaf = world.leaf("silent")
    world.answers("/fixed", leaf, ocsp.OCSPCertStatus.GOOD)
    return world.status(leaf)


def revoked_since(world: World) -> int | str:
    """A device whose answer has been remembered, and is another one by now."""
    leaf = world.leaf("since", responder="/since")
    world.answers("/since", leaf, ocsp.OCSPCertStatus.GOOD)
    assert world.status(leaf) == 200
    world.answers("/since", leaf, ocsp.OCSPCertStatus.REVOKED)
    return world.status(leaf)


def revoked_for_a_while(world: World) -> str:
    """The same after a time that no test could wait for if the key had no effect."""
    leaf = world.leaf("while", responder="/while")
    world.answers("/while", leaf, ocsp.OCSPCertStatus.GOOD)
    assert world.status(leaf) == 200
    world.answers("/while", leaf, ocsp.OCSPCertStatus.REVOKED)
    wait_until(lambda: world.status(leaf) == NO_CONNECTION)
    return NO_CONNECTION


def responder_hangs(world: World) -> tuple[int | str, str]:
    """What the client gets, and what the operator reads."""
    world.site.pages["/hangs"] = world.site.slow
    status = world.status(world.leaf("waits", responder="/hangs"))
    source = world.site.url("/hangs")
    (line,) = world.server.wait_for_log(lambda line: line.get("source") == source)
    return status, line["problem"]


def responder_takes_its_time(world: World) -> int | str:
    """One that answers only after it was seen that the client waits."""
    leaf, go = world.leaf("patient", responder="/late"), threading.Event()
    responding = Responding(authority=DEVICE_CA, signer=RESPONDER)

    def late(body: bytes) -> bytes:
        go.wait()
        return responding.answer(leaf.certificate, body)

    world.site.pages["/late"] = late
    seen: list[int | str] = []
    client = threading.Thread(target=lambda: seen.append(world.status(leaf)))
    client.start()
    wait_until(lambda: world.site.asked["/late"] == 1)
    go.set()
    client.join()
    return seen[0]


def renewal_without_record(world: World) -> int | str:
    ca = world.directory / "state" / "ca"
    key = serialization.load_pem_private_key((ca / "issuing.key").read_bytes(), None)
    certificate, root = (
        x509.load_pem_x509_certificate((ca / f"{name}.pem").read_bytes()) for name in ("issuing", "root")
    )
    leaf = Authority(certificate, key, (root,)).leaf("unrecorded")  # type: ignore[arg-type]  # a key that can sign
    csr = base64.b64encode(make_csr(leaf.key, "unrecorded"))
    with connection(world.server.est_port, client_context(world.directory, leaf)) as raw:
        return raw.ask("POST", "/.well-known/est/simplereenroll", csr, {"Content-Type": "application/pkcs10"})


VIEWS: Mapping[str, Callable[[World], object]] = {
    "listed": lambda world: world.status(LISTED),
    "unlisted": lambda world: world.status(UNLISTED),
    **{
        view.__name__.replace("_", " "): view
        for view in (
            in_the_crl_it_names,
            not_in_the_crl_it_names,
            good_by_the_responder_it_names,
            revoked_by_the_responder_it_names,
            good_by_the_responder_it_names_and_revoked_by_the_other,
            names_no_responder,
            revoked_since,
            revoked_for_a_while,
            responder_hangs,
            responder_takes_its_time,
            renewal_without_record,
        )
    },
}


# -- the table ---------------------------------------------------------------------------------------------------------
def row(key: str, value: str | None, sees: Mapping[str, object] | str, **beside: str) -> Row:
    """A row of ``[revocation]``; ``beside`` are further keys of it."""
    more: dict[str, str | None] = {f"revocation.{name}": each for name, each in beside.items()}
    return Row(f"revocation.{key}", value, sees, {**REQUIRED, **more})


FILE, CRL, OCSP, BOTH = '["devices.crl"]', '"crl"', '"ocsp"', '"ocsp-then-crl"'
ROWS = [
    row("check", None, {"listed": 200, "in the crl it names": 200, "revoked by the responder it names": 200}),
    row("check", '"none"', {"listed": 200, "in the crl it names": 200, "revoked by the responder it names": 200}),
    row(
        "check",
        CRL,
        {
            "in the crl it names": NO_CONNECTION,
            "not in the crl it names": 200,
            "good by the responder it names": NO_CONNECTION,
        },
    ),
    row(
        "check",
        OCSP,
        {
            "good by the responder it names": 200,
            "revoked by the responder it names": NO_CONNECTION,
            "not in the crl it names": NO_CONNECTION,
        },
    ),
    row(
        "check",
        BOTH,
        {
            "good by the responder it names": 200,
            "revoked by the responder it names": NO_CONNECTION,
            "in the crl it names": NO_CONNECTION,
            "not in the crl it names": 200,
        },
    ),
    row("crls", None, {"listed": NO_CONNECTION, "unlisted": NO_CONNECTION}, check=CRL),
    row("crls", FILE, {"listed": NO_CONNECTION, "unlisted": 200}, check=CRL),
    row("crls", '"SITE/devices.crl"', {"listed": NO_CONNECTION, "unlisted": 200}, check=CRL),
    row(
        "responder",
        None,
        {"good by the responder it names and revoked by the other": 200, "names no responder": NO_CONNECTION},
        check=OCSP,
    ),
    row(
        "responder",
        '"SITE/fixed"',
        {"good by the responder it names and revoked by the other": NO_CONNECTION, "names no responder": 200},
        check=OCSP,
    ),
    row(
        "soft_fail",
        None,
        {"names no responder": NO_CONNECTION, "revoked by the responder it names": NO_CONNECTION},
        check=OCSP,
    ),
    row(
        "soft_fail",
        "true",
        {"names no responder": 200, "revoked by the responder it names": NO_CONNECTION},
        check=OCSP,
    ),
    row("cache_ttl", None, {"revoked since": 200}, check=OCSP),
    row("cache_ttl", '"1s"', {"revoked for a while": NO_CONNECTION}, check=OCSP),
    row(
        "timeout",
        '"1s"',
        {"responder hangs": (NO_CONNECTION, "did not answer within 1 s")},
        check=OCSP,
    ),
    row(
        "timeout",
        '"2s"',
        {"responder hangs": (NO_CONNECTION, "did not answer within 2 s")},
        check=OCSP,
    ),
    row("timeout", '"1h"', {"responder takes its time": 200}, check=OCSP),
    Row("revocation.accept_unrecorded", None, {"renewal without record": 401}),
    Row("revocation.accept_unrecorded", "true", {"renewal without record": 200}),
]
REFUSED = [
    row("check", '"always"', "revocation.check"),
    row("crls", '"nowhere.crl"', "nowhere.crl does not exist", check=CRL),
    row("crls", '"issuing.pem"', "issuing.pem holds no CRL that can be read, PEM or DER", check=CRL),
    row("crls", '"ftp://crl.example/ca.crl"', "revocation.crls", check=CRL),
    row("crls", FILE, 'revocation.crls: has no effect, because check is "ocsp"', check=OCSP),
    row("responder", '"ldap://ocsp.example"', "revocation.responder", check=OCSP),
    row("responder", '"http://ocsp.example"', 'revocation.responder: has no effect, because check is "crl"', check=CRL),
    row("soft_fail", "true", 'revocation.soft_fail: has no effect, because check is "none"'),
    row("soft_fail", '"perhaps"', "revocation.soft_fail", check=CRL),
    row("cache_ttl", '"0s"', "revocation.cache_ttl", check=CRL),
    row("timeout", '"soon"', "revocation.timeout", check=CRL),
    row("accept_unrecorded", '"perhaps"', "revocation.accept_unrecorded"),
]


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with http_site() as running:
        running.pages["/devices.crl"] = crl_der(DEVICE_CA, LISTED)
        yield running


def made(directory: Path, each: Row, url: str = "") -> Deployment:
    """A deployment with this row's settings."""
    settings = {key: value and value.replace("SITE", url) for key, value in each.settings.items()}
    deployment = make_site(directory, settings)
    (directory / "issuing.pem").write_bytes(DEVICE_CA.pem)
    (directory / "devices.crl").write_bytes(crl_der(DEVICE_CA, LISTED))
    return deployment


@pytest.mark.parametrize("each", ROWS, ids=str)
def test_a_setting_and_what_a_client_sees(tmp_path: Path, site: Site, each: Row) -> None:
    deployment = made(tmp_path / "site", each, site.url(""))
    assert isinstance(each.sees, Mapping)
    site.asked.clear()
    with running_server(deployment) as server:
        world = World(server, site)
        assert {view: VIEWS[view](world) for view in each.sees} == each.sees


@pytest.mark.parametrize("each", REFUSED, ids=str)
def test_a_value_that_is_refused_is_one_line(tmp_path: Path, each: Row) -> None:
    line = check(made(tmp_path / "site", each)).only_line()
    assert str(each.sees) in line


def test_every_key_has_rows() -> None:
    keys = {f"revocation.{name}" for name in Revocation.model_fields}
    assert keys == {each.key for each in ROWS} == {each.key for each in REFUSED}

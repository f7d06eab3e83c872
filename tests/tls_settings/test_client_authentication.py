"""Client certificates in ``required`` and ``optional``: who gets through the handshake, and who decides after it."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from kipuka_core.testing.client import basic
from kipuka_core.testing.pki import Leaf, make_csr, make_root
from tests.system.system_kit import PKCS10, System
from tests.tls_settings.settings_kit import (
    CACERTS,
    DEVICE_CA,
    DEVICE_ROOT,
    NO_CONNECTION,
    client_context,
    connection,
    look,
)
from tests.tls_settings.views import CLIENTS, DEVICE, STRANGER, Site, running_site

pytestmark = pytest.mark.long

ENROL = "/.well-known/est/simpleenroll"
NOW = datetime.now(UTC)
each_version = pytest.mark.parametrize("tls", ["1.2", "1.3"])


def _self_signed() -> Leaf:
    root = make_root("device")
    return Leaf(root.certificate, root.key)


def _below_a_leaf() -> Leaf:
    """A device's certificate, signed with the key of another device."""
    device = DEVICE_ROOT.leaf("device")
    forger = type(DEVICE_ROOT)(device.certificate, device.key, DEVICE_ROOT.chain)
    return forger.leaf("device")


BAD: dict[str, Callable[[], Leaf]] = {
    "of an unknown CA": lambda: STRANGER,
    "of a CA that has the name of a trusted one": lambda: make_root("Device Root CA").leaf("device"),
    "self-signed": _self_signed,
    "expired": lambda: DEVICE_CA.leaf("device", days=10, not_before=NOW - timedelta(days=11)),
    "not valid yet": lambda: DEVICE_CA.leaf("device", not_before=NOW + timedelta(days=1)),
    "for servers": lambda: DEVICE_CA.leaf("device", eku=(ExtendedKeyUsageOID.SERVER_AUTH,)),
    "without its issuer": lambda: CLIENTS["device without chain"] or DEVICE,
    "of a CA whose own CA is not one": _below_a_leaf,
}


@pytest.fixture(scope="module")
def optional(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with running_site(tmp_path_factory.mktemp("optional")) as site:
        yield site


@pytest.fixture(scope="module")
def required(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with running_site(tmp_path_factory.mktemp("required"), {"tls.client_auth.mode": '"required"'}) as site:
        yield site


@each_version
@pytest.mark.parametrize("bad", BAD)
def test_a_bad_certificate_ends_the_handshake_in_either_mode(
    bad: str, tls: str, optional: Site, required: Site
) -> None:
    leaf = BAD[bad]()
    for site in (optional, required):
        assert look(site.port("est"), client_context(site.directory, leaf, tls=tls)) == NO_CONNECTION


def test_a_bad_certificate_is_not_made_good_by_a_password(optional: Site) -> None:
    system = System(optional.deployment, optional.server)
    token = system.otp("device")

    assert enrol(optional, STRANGER, "device", token) == NO_CONNECTION
    assert system.uses(token) == (0, 0)


@each_version
def test_without_a_certificate_the_next_authenticator_decides(tls: str, optional: Site) -> None:
    system = System(optional.deployment, optional.server)
    token = system.otp("first")

    assert enrol(optional, None, "first", "a guess", tls) == 401
    assert enrol(optional, None, "first", token, tls) == 200
    assert system.uses(token) == (1, 0)


@each_version
def test_a_good_certificate_enrols_without_a_password(tls: str, optional: Site) -> None:
    assert enrol(optional, DEVICE, tls=tls) == 200


@each_version
def test_with_required_nobody_gets_anything_without_a_certificate(tls: str, required: Site) -> None:
    """The alert that comes is that of RFC 5246 7.2.2 and RFC 8446 6.2."""
    alert = {"1.2": "SSLV3_ALERT_HANDSHAKE_FAILURE", "1.3": "TLSV13_ALERT_CERTIFICATE_REQUIRED"}[tls]
    with connection(required.port("est"), client_context(required.directory, tls=tls)) as raw:

        def get() -> None:
            raw.request("GET", CACERTS)
            raw.getresponse()

        with pytest.raises(ssl.SSLError) as caught:
            get()

    assert caught.value.reason == alert


def test_with_required_a_password_is_no_way_in(required: Site) -> None:
    system = System(required.deployment, required.server)
    token = system.otp("locked-out")

    assert enrol(required, None, "locked-out", token) == NO_CONNECTION
    assert system.uses(token) == (0, 0)
    assert enrol(required, DEVICE) == 200


def enrol(site: Site, leaf: Leaf | None, user: str = "", password: str = "", tls: str | None = None) -> int | str:
    """The status of a simpleenroll for the name ``user``, or for that of the certificate."""
    name = user or leaf_name(leaf)
    headers = {**PKCS10, "Authorization": basic(user, password)} if user else PKCS10
    with connection(site.port("est"), client_context(site.directory, leaf, tls=tls)) as raw:
        return raw.ask("POST", ENROL, make_csr(common_name=name), headers)


def leaf_name(leaf: Leaf | None) -> str:
    assert leaf is not None
    (name,) = leaf.certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    return str(name.value)

"""The authenticator ``mtls``."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID
from pydantic import ValidationError

from kipuka_builtin import mtls
from kipuka_core import (
    ClientIdentity,
    ConfigurationError,
    NotAllowed,
    NotAuthenticated,
    Offer,
    RequestRefused,
    Services,
)
from kipuka_core.errors import StoreUnavailable
from kipuka_core.model.fingerprints import issuer_key_id, public_key_id, serial_hex
from kipuka_core.model.record import CertificateStatus
from kipuka_core.testing import pki
from kipuka_core.testing.contracts.authenticator import AuthenticatorContract
from kipuka_core.testing.fakes import FakeStore
from kipuka_core.testing.samples import sample_label, sample_offer
from kipuka_core.testing.services import make_services

ROOT = pki.make_root()
OWN = ROOT.subordinate("Own Issuing CA")
PARTNER = pki.make_root("Partner CA")
STRANGER = pki.make_root("Stranger CA")
DEVICE = OWN.leaf("device", ["dns:device.example"])
NOW = datetime.now(UTC)


def offer_of(leaf: pki.Leaf, *, time: datetime = NOW, label: str = "", accept_from: tuple[str, ...] = ()) -> Offer:
    where = replace(sample_label(label), accept_from=accept_from)
    return sample_offer(leaf.certificate, *leaf.chain, time=time, label=where)


@pytest.fixture
def store() -> FakeStore:
    store = FakeStore()
    store.record(DEVICE.certificate, OWN.certificate)
    return store


@pytest.fixture
def services(tmp_path: Path, store: FakeStore) -> Services:
    return make_services(tmp_path, store=store, own_issuers=lambda: OWN.chain, client_anchors=(PARTNER.certificate,))


async def identify(services: Services, offer: Offer, **settings: object) -> ClientIdentity | None:
    async with mtls.PROVIDER.open(mtls.MtlsSettings(**settings), services) as port:
        return await port.authenticate(offer)


async def identity_of(services: Services, offer: Offer) -> ClientIdentity:
    identity = await identify(services, offer)
    assert identity is not None
    return identity


async def refusal(services: Services, offer: Offer) -> RequestRefused:
    with pytest.raises(RequestRefused) as caught:
        await identify(services, offer)
    return caught.value


def special_leaf(issuer: pki.Authority, *extensions: tuple[x509.ExtensionType, bool]) -> pki.Leaf:
    key = pki.make_key()
    certificate = pki._sign(
        subject=pki.name("special"), public_key=key.public_key(), issuer=issuer, days=9, extensions=extensions
    )
    return pki.Leaf(certificate, key, issuer.chain)


class TestContract(AuthenticatorContract):
    provider = mtls.PROVIDER

    @pytest.fixture
    def services(self, services: Services) -> Services:
        return services

    @pytest.fixture
    def good_offer(self) -> Offer:
        return offer_of(DEVICE)

    @pytest.fixture
    def foreign_offers(self) -> Sequence[Offer]:
        return [offer_of(STRANGER.leaf("device")), sample_offer(username="device", password="x")]


async def test_a_recorded_certificate_is_known_by_the_recorded_entity(services: Services, store: FakeStore) -> None:
    store.record(DEVICE.certificate, OWN.certificate, entity_id="asset-17")
    identity = await identity_of(services, offer_of(DEVICE))
    assert identity.entity_id == "asset-17"
    assert identity.names == {"cn:device", "dns:device.example"}
    assert identity.certificate == DEVICE.certificate


@pytest.mark.parametrize(
    ("common_name", "san", "entity_id"),
    [
        ("meter-1", ["dns:meter-1.example"], "meter-1"),
        (None, ["dns:Meter-2.example", "ip:192.0.2.1"], "meter-2.example"),
        ("00:11:22:33:44:55", ["uri:urn:dev:1", "dns:meter-3.example"], "meter-3.example"),
        ("bell\x07", ["ip:192.0.2.9"], "192.0.2.9"),
    ],
)
async def test_another_anchors_certificate_needs_no_record_and_is_known_by_its_first_usable_name(
    services: Services, common_name: str | None, san: list[str], entity_id: str
) -> None:
    identity = await identity_of(services, offer_of(PARTNER.leaf(common_name, san)))
    assert identity.entity_id == entity_id


async def test_a_certificate_whose_every_name_holds_a_colon_is_known_by_its_key_and_keeps_its_names(
    services: Services,
) -> None:
    leaf = PARTNER.leaf("00:11:22:33:44:55")
    identity = await identity_of(services, offer_of(leaf))
    assert identity.entity_id == f"key-sha256-{public_key_id(leaf.certificate)}"
    assert identity.names == {"cn:00:11:22:33:44:55"}


async def test_certificates_are_refused_out_of_their_time(services: Services) -> None:
    lifetime = DEVICE.certificate.not_valid_before_utc, DEVICE.certificate.not_valid_after_utc
    assert await identify(services, offer_of(DEVICE, time=lifetime[0]))
    assert await identify(services, offer_of(DEVICE, time=lifetime[1]))
    too_early = await refusal(services, offer_of(DEVICE, time=lifetime[0] - timedelta(seconds=1)))
    assert too_early.code == "certificate_not_yet_valid"
    too_late = await refusal(services, offer_of(DEVICE, time=lifetime[1] + timedelta(seconds=1)))
    assert too_late.code == "certificate_expired"


@pytest.mark.parametrize(
    ("extensions", "word"),
    [
        ([(x509.BasicConstraints(ca=True, path_length=None), True)], "CA certificate"),
        ([(pki._key_usage(key_encipherment=True), True)], "digitalSignature"),
        ([(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False)], "clientAuth"),
        ([(x509.UnrecognizedExtension(ExtensionOID.SUBJECT_ALTERNATIVE_NAME, b"\xff\x01"), False)], "well-formed"),
    ],
)
async def test_a_certificate_that_was_not_made_for_clients_is_refused(
    services: Services, extensions: list[tuple[x509.ExtensionType, bool]], word: str
) -> None:
    error = await refusal(services, offer_of(special_leaf(PARTNER, *extensions)))
    assert isinstance(error, NotAuthenticated)
    assert error.code == "certificate_unusable"
    assert word in error.reason


@pytest.mark.parametrize(
    "extensions",
    [
        [],
        [(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE]), False)],
        [(pki._key_usage(digital_signature=True, key_agreement=True), True)],
    ],
)
async def test_a_certificate_without_limits_on_its_use_is_believed(
    services: Services, extensions: list[tuple[x509.ExtensionType, bool]]
) -> None:
    assert (await identity_of(services, offer_of(special_leaf(PARTNER, *extensions)))).entity_id == "special"


async def test_revocation_is_seen_at_the_next_request_of_the_same_connection(
    services: Services, store: FakeStore
) -> None:
    async with mtls.PROVIDER.open(mtls.MtlsSettings(), services) as port:
        offer = offer_of(DEVICE)
        assert await port.authenticate(offer)
        store.record(DEVICE.certificate, OWN.certificate, status=CertificateStatus.REVOKED)
        with pytest.raises(NotAuthenticated) as caught:
            await port.authenticate(offer)
        assert caught.value.code == "certificate_revoked"


async def test_a_recorded_certificate_counts_for_its_own_label_and_those_that_accept_from_it(
    services: Services, store: FakeStore
) -> None:
    store.record(DEVICE.certificate, OWN.certificate, label="factory")
    assert await identify(services, offer_of(DEVICE, label="factory"))
    assert await identify(services, offer_of(DEVICE, label="field", accept_from=("factory",)))
    for label in ("field", ""):
        error = await refusal(services, offer_of(DEVICE, label=label, accept_from=("other",)))
        assert isinstance(error, NotAllowed)
        assert error.code == "other_label"


async def test_an_unrecorded_certificate_of_an_own_ca_is_refused_unless_accepted(services: Services) -> None:
    unknown = offer_of(OWN.leaf("unknown"))
    assert (await refusal(services, unknown)).code == "certificate_unrecorded"
    accepting = replace(services, accept_unrecorded=True)
    assert (await identity_of(accepting, unknown)).entity_id == "unknown"


async def test_listing_the_root_above_an_own_ca_does_not_make_unrecorded_certificates_count(services: Services) -> None:
    listed = replace(services, client_anchors=(ROOT.certificate,))
    assert (await refusal(listed, offer_of(OWN.leaf("unknown")))).code == "certificate_unrecorded"


async def test_what_another_ca_below_the_same_root_issued_counts_only_when_the_root_is_listed(
    services: Services,
) -> None:
    sibling = offer_of(ROOT.subordinate("Sibling CA").leaf("other"))
    assert await identify(services, sibling) is None
    assert await identify(replace(services, accept_unrecorded=True), sibling) is None
    listed = replace(services, client_anchors=(ROOT.certificate,))
    assert (await identity_of(listed, sibling)).entity_id == "other"


async def test_a_recorded_certificate_of_an_issuer_that_is_gone_counts_below_an_own_root(
    services: Services, store: FakeStore
) -> None:
    former = ROOT.subordinate("Former Issuing CA")
    leaf = former.leaf("device")
    store.record(leaf.certificate, former.certificate)
    assert await identify(services, offer_of(leaf))


async def test_a_renewed_ca_certificate_around_the_same_key_finds_the_old_records(services: Services) -> None:
    renewed = pki.Authority(
        pki._sign(
            subject=OWN.certificate.subject, public_key=OWN.key.public_key(), issuer=ROOT, days=99,
            extensions=pki._ca_extensions(0),
        ),
        OWN.key,
        ROOT.chain,
    )  # fmt: skip
    rolled = replace(services, own_issuers=lambda: renewed.chain)
    chain = pki.Leaf(DEVICE.certificate, DEVICE.key, renewed.chain)
    assert (await identity_of(rolled, offer_of(chain))).entity_id == "device"


async def test_a_ca_that_was_added_while_running_counts_at_once(services: Services, store: FakeStore) -> None:
    issuers = [OWN.certificate]
    growing = replace(services, own_issuers=lambda: issuers)
    other = pki.make_root("Next CA")
    leaf = other.leaf("device")
    store.record(leaf.certificate, other.certificate)
    async with mtls.PROVIDER.open(mtls.MtlsSettings(), growing) as port:
        assert await port.authenticate(offer_of(leaf)) is None
        issuers.append(other.certificate)
        assert await port.authenticate(offer_of(leaf))


async def test_a_revoked_certificate_stays_revoked_when_it_is_a_trust_anchor_itself(
    services: Services, store: FakeStore
) -> None:
    pinned = replace(services, client_anchors=(DEVICE.certificate,))
    alone = pki.Leaf(DEVICE.certificate, DEVICE.key)
    assert await identify(pinned, offer_of(alone))
    store.record(DEVICE.certificate, OWN.certificate, status=CertificateStatus.REVOKED)
    assert (await refusal(pinned, offer_of(alone))).code == "certificate_revoked"


async def test_a_pinned_certificate_of_nobody_we_know_needs_no_record(services: Services) -> None:
    leaf = STRANGER.leaf("pinned")
    pinned = replace(services, client_anchors=(leaf.certificate,))
    assert (await identity_of(pinned, offer_of(pki.Leaf(leaf.certificate, leaf.key)))).entity_id == "pinned"


async def test_configured_anchors_replace_the_default_ones(services: Services, tmp_path: Path) -> None:
    (tmp_path / "partner.pem").write_bytes(STRANGER.pem)
    assert await identify(services, offer_of(STRANGER.leaf("s")), anchors="partner.pem")
    assert await identify(services, offer_of(PARTNER.leaf("p")), anchors=["partner.pem"]) is None
    assert await identify(services, offer_of(DEVICE), anchors=["partner.pem"]) is None


async def test_configured_anchors_do_not_set_aside_the_records(
    services: Services, store: FakeStore, tmp_path: Path
) -> None:
    (tmp_path / "root.pem").write_bytes(ROOT.pem)
    assert await identify(services, offer_of(DEVICE), anchors=["root.pem"])
    store.record(DEVICE.certificate, OWN.certificate, status=CertificateStatus.REVOKED)
    with pytest.raises(NotAuthenticated, match="revoked"):
        await identify(services, offer_of(DEVICE), anchors=["root.pem"])


@pytest.mark.parametrize("content", [None, b"", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
async def test_anchors_that_cannot_be_read_stop_the_start(
    services: Services, tmp_path: Path, content: bytes | None
) -> None:
    if content is not None:
        (tmp_path / "anchors.pem").write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"anchors\.pem"):
        await identify(services, offer_of(DEVICE), anchors=["anchors.pem"])


def test_an_empty_list_of_anchors_is_an_error() -> None:
    with pytest.raises(ValidationError):
        mtls.MtlsSettings(anchors=[])


async def test_a_store_that_does_not_answer_authenticates_nobody(services: Services, store: FakeStore) -> None:
    store.unavailable = True
    for leaf in (DEVICE, PARTNER.leaf("p")):
        with pytest.raises(StoreUnavailable):
            await identify(services, offer_of(leaf))


def test_serials_are_lower_case_hex_and_key_ids_follow_the_key() -> None:
    assert int(serial_hex(DEVICE.certificate), 16) == DEVICE.certificate.serial_number
    assert serial_hex(DEVICE.certificate) == serial_hex(DEVICE.certificate).lower().lstrip("0")
    assert issuer_key_id(OWN.certificate) == public_key_id(OWN.certificate) != issuer_key_id(ROOT.certificate)

"""simplereenroll: who may renew what, where (RFC 7030 4.2.2; rows 11 and 12)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from cryptography import x509
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.name import _ASN1Type
from cryptography.x509.oid import NameOID

from kipuka_core.testing.pki import Leaf, make_csr, make_key, name
from kipuka_core.wire import der
from tests.system.system_kit import VENDOR, System, deploy, san_texts, serving
from tests.wire.forge import CHANGE_SUBJECT_NAME, change_subject_name


def renewed(system: System, leaf: Leaf, csr: bytes, label: str = "") -> x509.Certificate:
    return system.client(leaf).reenrol(csr, label=label).certificate()


def revoke(system: System, leaf: Leaf) -> None:
    system.deployment.kipuka("certs", "revoke", f"{leaf.certificate.serial_number:x}", "--reason", "keyCompromise")


@pytest.mark.parametrize("same_key", [True, False])
def test_the_same_key_renews_and_a_new_key_rekeys(system: System, same_key: bool) -> None:
    leaf = system.enrolled("renews", san=["dns:renews"])
    key = leaf.key if same_key else make_key()
    certificate = renewed(system, leaf, make_csr(key, "renews", ["dns:renews"]))
    assert certificate.public_key() == key.public_key()
    assert certificate.subject == leaf.certificate.subject
    assert san_texts(certificate) == ["renews"]
    assert certificate.serial_number != leaf.certificate.serial_number
    following = Leaf(certificate, key)
    assert renewed(system, following, make_csr(key, "renews", ["dns:renews"])).subject == leaf.certificate.subject


@pytest.mark.parametrize(
    "subject",
    [
        name("another"),
        name("subject", O="Example"),
        name(None, O="subject"),
        x509.Name([*name("subject"), *name("subject")]),
        name(None, O="subject", OU="subject"),
    ],
)
def test_another_subject_is_refused(system: System, subject: x509.Name) -> None:
    leaf = system.enrolled("subject", san=["dns:subject"])
    csr = make_csr(leaf.key, subject=subject, san=["dns:subject"])
    assert system.refused(system.client(leaf).reenrol(csr), 400, "Subject")["code"] == "subject_differs"


def test_the_order_of_the_subject_counts(system: System) -> None:
    subject = name("ordered", O="One", OU="Two")
    leaf = system.enrolled("ordered", subject=subject)
    reversed_subject = x509.Name(list(subject)[::-1])
    system.refused(system.client(leaf).reenrol(make_csr(leaf.key, subject=reversed_subject)), 400, "Subject")
    assert renewed(system, leaf, make_csr(leaf.key, subject=subject)).subject == subject


@pytest.mark.parametrize(
    "san",
    [["dns:san"], ["dns:san", "ip:192.0.2.9", "dns:more"], ["dns:san", "ip:192.0.2.10"], ["dns:san", "uri:urn:x"]],
)
def test_one_name_more_or_less_or_other_in_the_san_is_refused(system: System, san: list[str]) -> None:
    leaf = system.enrolled("san", label="a", san=["dns:san", "ip:192.0.2.9"])
    answer = system.client(leaf).reenrol(make_csr(leaf.key, "san", san), label="a")
    assert system.refused(answer, 400, "SubjectAltName")["code"] == "san_differs"


def test_the_order_of_the_san_does_not_count(system: System) -> None:
    leaf = system.enrolled("order", label="a", san=["dns:one.order", "dns:two.order", "ip:192.0.2.9"])
    csr = make_csr(leaf.key, "order", ["ip:192.0.2.9", "dns:TWO.order", "dns:one.order"])
    assert {text.lower() for text in san_texts(renewed(system, leaf, csr, "a"))} == {"one.order", "two.order"}


def test_the_string_type_of_the_subject_does_not_count(system: System) -> None:
    def typed(string_type: _ASN1Type) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "strings", _type=string_type)])

    leaf = system.enrolled("strings", subject=typed(_ASN1Type.UTF8String))
    printable = typed(_ASN1Type.PrintableString)
    assert printable.public_bytes() != leaf.certificate.subject.public_bytes()
    assert renewed(system, leaf, make_csr(leaf.key, subject=printable)).subject == leaf.certificate.subject


def test_a_csr_without_the_san_is_refused_unless_the_label_carries_it_over(system: System) -> None:
    leaf = system.enrolled("carried", san=["dns:carried"])
    answer = system.client(leaf).reenrol(make_csr(leaf.key, "carried"))
    assert system.refused(answer, 400, "SubjectAltName")["code"] == "san_differs"
    carrying = system.enrolled("carried", label="carry", san=["dns:carried"])
    assert san_texts(renewed(system, carrying, make_csr(carrying.key, "carried"), "carry")) == ["carried"]
    other = make_csr(carrying.key, "carried", ["dns:other"])
    system.refused(system.client(carrying).reenrol(other, label="carry"), 400, "SubjectAltName")


def test_without_a_client_certificate_nothing_is_renewed_whatever_else_is_offered(system: System) -> None:
    token = system.otp("bare")
    for answer in (
        system.client().reenrol(make_csr(common_name="bare")),
        system.client().enrol(make_csr(common_name="bare"), user="bare", password=token, operation="simplereenroll"),
    ):
        assert system.refused(answer, 401, "simpleenroll")["code"] == "no_client_certificate"
    assert system.uses(token) == (0, 0)


def test_a_one_time_password_does_not_renew_a_certificate_that_cannot_be(system: System) -> None:
    idevid, token = VENDOR.leaf("otp-beside"), system.otp("otp-beside")
    answer = system.client(idevid).enrol(
        make_csr(idevid.key, "otp-beside"), user="otp-beside", password=token, operation="simplereenroll"
    )
    assert system.refused(answer, 403)["code"] == "foreign_certificate"
    assert system.uses(token) == (0, 0)


def test_a_certificate_of_another_trusted_ca_enrols_and_does_not_renew(system: System) -> None:
    idevid = VENDOR.leaf("foreign")
    client = system.client(idevid)
    fact = system.refused(client.reenrol(make_csr(idevid.key, "foreign")), 403, "use simpleenroll")
    assert fact["code"] == "foreign_certificate"
    assert len(client.enrol(make_csr(idevid.key, "foreign")).certificates()) == 1


def test_renew_from_trusted_renews_a_certificate_of_another_trusted_ca(system: System) -> None:
    idevid = VENDOR.leaf("migrates", ["dns:migrates"])
    certificate = renewed(system, idevid, make_csr(idevid.key, "migrates", ["dns:migrates"]), "migrate")
    certificate.verify_directly_issued_by(system.issuing_ca)
    other = make_csr(idevid.key, "migrates", ["dns:migrates", "dns:more"])
    system.refused(system.client(idevid).reenrol(other, label="migrate"), 400, "SubjectAltName")


def test_a_revoked_certificate_neither_renews_nor_authenticates_also_on_an_open_connection(system: System) -> None:
    leaf = system.enrolled("revoked")
    client = system.client(leaf)
    connection = client.connect()
    csr = make_csr(leaf.key, "revoked")
    try:
        assert client.enrol(csr, operation="simplereenroll", connection=connection).status == 200
        assert client.enrol(csr, connection=connection).status == 200
        socket_before = connection.sock
        revoke(system, leaf)
        for operation in ("simplereenroll", "simpleenroll"):
            refusal = client.enrol(csr, operation=operation, connection=connection)
            assert system.refused(refusal, 401, "revoked")["code"] == "certificate_revoked"
        assert connection.sock is socket_before
    finally:
        connection.close()
    for operation in ("simplereenroll", "simpleenroll"):
        refusal = client.enrol(csr, operation=operation)
        assert system.refused(refusal, 401, "revoked")["code"] == "certificate_revoked"
    assert system.issued_to("revoked") == 3


def test_a_certificate_whose_replacement_is_revoked_still_counts_for_itself(system: System) -> None:
    leaf = system.enrolled("sibling")
    sibling = Leaf(renewed(system, leaf, make_csr(leaf.key, "sibling")), leaf.key)
    revoke(system, sibling)
    assert renewed(system, leaf, make_csr(leaf.key, "sibling")).subject == leaf.certificate.subject
    system.refused(system.client(sibling).reenrol(make_csr(leaf.key, "sibling")), 401, "revoked")


def csr_with_name_change(leaf: Leaf, new: x509.Name | None, *san: str) -> bytes:
    """A CSR with ChangeSubjectName (RFC 6402 2.8), signed as it has to be."""
    oid, (value,) = change_subject_name(new, *san)
    assert oid == CHANGE_SUBJECT_NAME
    spki = leaf.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    attribute = der.Attribute(type=x509.ObjectIdentifier(oid), values=asn1.SetOf([der.tlv(value)]))
    info = der.RequestInfo(
        version=0,
        subject=der.tlv(leaf.certificate.subject.public_bytes()),
        spki=der.tlv(spki),
        attributes=asn1.SetOf([attribute]),
    )
    return signed(info, leaf)


def signed(info: der.RequestInfo, leaf: Leaf) -> bytes:
    assert isinstance(leaf.key, ec.EllipticCurvePrivateKey)
    signature = leaf.key.sign(asn1.encode_der(info), ec.ECDSA(hashes.SHA256()))
    algorithm = der.tlv(bytes.fromhex("300a06082a8648ce3d040302"))
    return asn1.encode_der(der.Request(info=info, algorithm=algorithm, signature=asn1.BitString(signature, 0)))


def test_a_change_of_name_is_refused_where_the_label_does_not_allow_it(system: System) -> None:
    leaf = system.enrolled("renamed")
    answer = system.client(leaf).reenrol(csr_with_name_change(leaf, name("new-name")))
    assert system.refused(answer, 403, "ChangeSubjectName")["code"] == "name_change"
    token = system.otp("renamed")
    first = system.client().enrol(csr_with_name_change(leaf, name("new-name")), user="renamed", password=token)
    system.refused(first, 403, "ChangeSubjectName")
    assert system.uses(token) == (0, 0)


def test_a_change_of_name_is_granted_where_the_label_allows_it(system: System) -> None:
    leaf = system.enrolled("renamed", label="rename")
    certificate = renewed(system, leaf, csr_with_name_change(leaf, name("new-name"), "dns:new.example"), "rename")
    assert certificate.subject == name("new-name")
    assert san_texts(certificate) == ["new.example"]
    following = Leaf(certificate, leaf.key)
    csr = make_csr(leaf.key, "new-name", ["dns:new.example"])
    assert renewed(system, following, csr, "rename").subject == name("new-name")


def test_a_csr_without_any_subject_is_refused(system: System) -> None:
    leaf = system.enrolled("subject", san=["dns:subject"])
    csr = make_csr(leaf.key, common_name=None, san=["dns:subject"])
    assert system.refused(system.client(leaf).reenrol(csr), 400, "Subject")["code"] == "subject_differs"


@pytest.fixture(scope="module")
def accepting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    deployment = deploy(tmp_path_factory.mktemp("accepting") / "deployment", "[revocation]\naccept_unrecorded = true")
    with serving(deployment) as running:
        yield running


def test_an_own_certificate_without_a_record_is_refused(system: System) -> None:
    unrecorded = system.own_ca.leaf("unrecorded")
    for operation in ("simplereenroll", "simpleenroll"):
        answer = system.client(unrecorded).enrol(make_csr(unrecorded.key, "unrecorded"), operation=operation)
        assert system.refused(answer, 401, "no record")["code"] == "certificate_unrecorded"


def test_accept_unrecorded_lets_it_renew(accepting: System) -> None:
    unrecorded = accepting.own_ca.leaf("unrecorded")
    certificate = renewed(accepting, unrecorded, make_csr(unrecorded.key, "unrecorded"))
    assert certificate.subject == unrecorded.certificate.subject
    assert len(accepting.client(unrecorded).enrol(make_csr(common_name="unrecorded")).certificates()) == 1


def test_after_the_database_is_lost_only_accept_unrecorded_lets_devices_renew(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    deployment = deploy(tmp_path_factory.mktemp("lost") / "deployment")
    with serving(deployment) as before:
        leaf = before.enrolled("survivor")
        assert renewed(before, leaf, make_csr(leaf.key, "survivor")).subject == leaf.certificate.subject
    for file in deployment.database.parent.glob("kipuka.db*"):
        file.unlink()
    with serving(deployment) as after:
        answer = after.client(leaf).reenrol(make_csr(leaf.key, "survivor"))
        assert after.refused(answer, 401, "no record")["code"] == "certificate_unrecorded"
    deployment.configure("[revocation]\naccept_unrecorded = true")
    with serving(deployment) as accepting:
        assert renewed(accepting, leaf, make_csr(leaf.key, "survivor")).subject == leaf.certificate.subject

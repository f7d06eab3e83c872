"""Labels are separate doors (row 1), and names belong to who asks."""

from __future__ import annotations

import pytest

from kipuka_core.testing.pki import make_csr, make_key, name
from tests.system.system_kit import VENDOR, System


def test_a_record_says_by_which_label_and_for_whom_a_certificate_was_issued(system: System) -> None:
    leaf = system.enrolled("labelled", label="factory")
    serial = f"{leaf.certificate.serial_number:x}"
    assert system.rows("SELECT label, entity_id FROM certificates WHERE serial_hex = ?", serial) == [
        ("factory", "labelled")
    ]


@pytest.mark.parametrize(
    ("common_name", "san"),
    [
        ("other-device", ()),
        ("self", ("dns:other-device",)),
        ("self", ("dns:self", "dns:other-device")),
        ("self", ("dns:*.self",)),
        ("self", ("ip:192.0.2.1",)),
        ("self", ("email:root@self",)),
        ("self", ("uri:urn:dev:other",)),
    ],
)
def test_a_name_of_another_identity_is_refused(system: System, common_name: str, san: tuple[str, ...]) -> None:
    token = system.otp("self")
    answer = system.client().enrol(make_csr(common_name=common_name, san=san), user="self", password=token)
    status = 400 if san == ("dns:*.self",) else 403
    fact = system.refused(answer, status)
    assert fact["actor"] == "self"
    assert fact["authenticator"] == "otp"
    assert system.uses(token) == (0, 0)
    assert len(system.client().enrol(make_csr(common_name="self"), user="self", password=token).certificates()) == 1


def test_other_subject_attributes_that_name_somebody_are_names_too(system: System) -> None:
    token = system.otp("mail-self")
    csr = make_csr(subject=name("mail-self", email="boss@example.test"))
    system.refused(system.client().enrol(csr, user="mail-self", password=token), 403, "boss@example.test")


def test_a_certificate_that_names_nobody_is_refused(system: System) -> None:
    token = system.otp("nobody")
    answer = system.client().enrol(make_csr(common_name=None), user="nobody", password=token)
    system.refused(answer, 400, "names nobody")


def test_a_factory_certificate_holds_its_own_names_and_no_others(system: System) -> None:
    idevid = VENDOR.leaf("serial-1", ["dns:serial-1.vendor.example"])
    client = system.client(idevid)
    system.refused(client.enrol(make_csr(common_name="serial-2")), 403, "serial-2")
    assert len(client.enrol(make_csr(None, "serial-1", ["dns:serial-1.vendor.example"])).certificates()) == 1


def test_a_certificate_of_one_label_is_no_identity_at_another(system: System) -> None:
    leaf = system.enrolled("of-a", label="a")
    client = system.client(leaf)
    csr = make_csr(make_key(), "of-a")
    for door in ("", "b"):
        fact = system.refused(client.enrol(csr, label=door), 403, "another label")
        assert fact["code"] == "other_label"
        assert system.refused(client.reenrol(csr, label=door), 403)["code"] == "other_label"
    assert system.issued_to("of-a") == 1
    assert len(client.reenrol(csr, label="a").certificates()) == 1


def test_a_certificate_of_the_door_without_label_is_no_identity_at_a_label(system: System) -> None:
    leaf = system.enrolled("of-none")
    client = system.client(leaf)
    system.refused(client.enrol(make_csr(common_name="of-none"), label="a"), 403)
    system.refused(client.reenrol(make_csr(common_name="of-none"), label="a"), 403)
    assert len(client.reenrol(make_csr(common_name="of-none")).certificates()) == 1


def test_accept_from_lets_certificates_of_the_listed_label_in_and_no_others(system: System) -> None:
    from_a, from_b = system.enrolled("moves-a", label="a"), system.enrolled("moves-b", label="b")
    moved = system.client(from_a).reenrol(make_csr(from_a.key, "moves-a"), label="accepts-a").certificate()
    assert system.rows("SELECT label FROM certificates WHERE serial_hex = ?", f"{moved.serial_number:x}") == [
        ("accepts-a",)
    ]
    assert len(system.client(from_a).enrol(make_csr(common_name="anything"), label="accepts-a").certificates()) == 1
    system.refused(system.client(from_b).reenrol(make_csr(from_b.key, "moves-b"), label="accepts-a"), 403)


def test_another_credential_of_the_same_request_may_still_count(system: System) -> None:
    leaf = system.enrolled("crossing", label="a")
    token = system.otp("crossing")
    answer = system.client(leaf).enrol(make_csr(common_name="crossing"), user="crossing", password=token, label="b")
    assert len(answer.certificates()) == 1
    assert system.uses(token) == (1, 0)

"""Renewals: the store judges what is on record, CRLs what an own CA issued without a record."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kipuka_core.testing.client import Answer
from kipuka_core.testing.pki import Leaf, make_csr
from tests.edges.revocation.revocation_kit import crl_der
from tests.system.system_kit import VENDOR, System, deploy, serving

pytestmark = pytest.mark.long

TOML = """
[revocation]
check = "crl"
crls = ["own.crl", "vendor.crl"]
[[est.label]]
name = "migrate"
renew_from = "trusted"
"""


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    deployment = deploy(tmp_path_factory.mktemp("renewals") / "d")
    for name in ("own.crl", "vendor.crl"):
        (deployment.directory / name).write_bytes(crl_der(VENDOR))
    anchors = 'trust_anchors = ["state/ca/issuing.pem", "vendor.pem"]\n'
    deployment.configure(TOML, client_auth=anchors)
    with serving(deployment) as running:
        yield running


def list_in_crls(system: System, *, own: tuple[Leaf, ...] = (), vendor: tuple[Leaf, ...] = ()) -> None:
    """Publish new CRLs and reload."""
    directory = system.deployment.directory
    (directory / "own.crl").write_bytes(crl_der(system.own_ca, *own))
    (directory / "vendor.crl").write_bytes(crl_der(VENDOR, *vendor))
    system.deployment.kipuka("reload")


def renew(system: System, leaf: Leaf, label: str = "") -> Answer:
    common_name = leaf.certificate.subject.rfc4514_string().removeprefix("CN=")
    return system.client(leaf).reenrol(make_csr(leaf.key, common_name), label=label)


def test_what_is_on_record_is_judged_by_the_store_alone(system: System) -> None:
    leaf, revoked = system.enrolled("recorded"), system.enrolled("revoked-here")
    list_in_crls(system, own=(leaf,))
    assert len(renew(system, leaf).certificates()) == 1
    system.deployment.kipuka("certs", "revoke", f"{revoked.certificate.serial_number:x}")
    assert system.refused(renew(system, revoked), 401)["code"] == "certificate_revoked"


def test_an_unrecorded_certificate_of_an_own_ca_is_renewed_when_its_crl_says_good(system: System) -> None:
    good, bad = system.own_ca.leaf("unrecorded"), system.own_ca.leaf("unrecorded-revoked")
    list_in_crls(system, own=(bad,))
    assert len(renew(system, good).certificates()) == 1
    assert system.refused(renew(system, bad), 401)["code"] == "certificate_revoked"


def test_an_unrecorded_certificate_that_no_crl_is_about_waits(system: System) -> None:
    (system.deployment.directory / "own.crl").write_bytes(crl_der(VENDOR))
    system.deployment.kipuka("reload")
    answer = renew(system, system.own_ca.leaf("nobody-knows"))
    assert system.refused(answer, 503)["code"] == "revocation_unknown"
    assert int(answer.headers["retry-after"]) > 0


def test_a_foreign_certificate_is_renewed_where_the_label_allows_it_and_not_when_revoked(system: System) -> None:
    good, bad = VENDOR.leaf("foreign"), VENDOR.leaf("foreign-revoked")
    list_in_crls(system, vendor=(bad,))
    assert len(renew(system, good, "migrate").certificates()) == 1
    assert system.refused(renew(system, bad, "migrate"), 401)["code"] == "certificate_revoked"

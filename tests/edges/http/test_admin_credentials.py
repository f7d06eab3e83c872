"""Who is an administrator: chains of every shape against the rule."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from kipuka_core.config.sections.server import Admin
from kipuka_core.edges.http.admin_credentials import Administrator, AdminRule, Role, idle_anchors
from kipuka_core.errors import NotAllowed, NotAuthenticated
from kipuka_core.testing.pki import Authority, Leaf, make_root, name

ADMIN_ROOT = make_root("Admin Root CA")
ADMIN_CA = ADMIN_ROOT.subordinate("Admin CA")
OWN_ROOT = make_root("Own Root CA")
OWN_CA = OWN_ROOT.subordinate("Own Issuing CA")
OWN = (*OWN_CA.chain,)
ANA = name("Ana", O="Example")
BEN = name("Ben", O="Example")


def rule(
    *anchors: Authority,
    own: Sequence[x509.Certificate] = OWN,
    operators: Sequence[str] = (),
    viewers: Sequence[str] = (),
) -> AdminRule:
    """The rule as a configuration with these lists makes it."""
    admin = Admin.model_validate({"operators": list(operators), "viewers": list(viewers)})
    certificates = [anchor.certificate for anchor in anchors or (ADMIN_CA,)]
    return AdminRule(
        anchors=lambda: certificates, own_issuers=lambda: own, operators=admin.operators, viewers=admin.viewers
    )


def verified(leaf: Leaf, *, up_to: int | None = None) -> tuple[x509.Certificate, ...]:
    """The chain as a handshake verified it, up to its anchor."""
    return (leaf.certificate, *leaf.chain)[:up_to]


def judged(under: AdminRule, chain: Sequence[x509.Certificate], now: datetime | None = None) -> Administrator | str:
    """The administrator, or the code of the refusal."""
    try:
        return under.administrator(chain, now or datetime.now(UTC))
    except (NotAuthenticated, NotAllowed) as refusal:
        return refusal.code


def test_whom_a_listed_ca_certified_is_an_operator() -> None:
    ana = ADMIN_CA.leaf(subject=ANA)
    assert judged(rule(), verified(ana, up_to=2)) == Administrator("CN=Ana,O=Example", Role.OPERATOR)
    assert judged(rule(), verified(ana)) == Administrator("CN=Ana,O=Example", Role.OPERATOR)


def test_without_a_certificate_there_is_no_credential() -> None:
    assert judged(rule(), ()) == "no_credential"


def test_a_root_that_is_listed_makes_no_administrators_through_its_intermediates() -> None:
    under = rule(ADMIN_ROOT)
    assert judged(under, verified(ADMIN_CA.leaf("Ana"))) == "unknown_issuer"
    assert isinstance(judged(under, verified(ADMIN_ROOT.leaf("Ana"))), Administrator)


def test_an_intermediate_that_is_listed_makes_none_through_its_root_or_its_siblings() -> None:
    assert judged(rule(), verified(ADMIN_ROOT.leaf("Ana"))) == "unknown_issuer"
    assert judged(rule(), verified(ADMIN_ROOT.subordinate("Admin CA").leaf("Ana"))) == "unknown_issuer"


@pytest.mark.parametrize("anchor", [OWN_CA, OWN_ROOT], ids=["issuing CA", "root"])
@pytest.mark.parametrize("issuer", [OWN_CA, OWN_ROOT], ids=["by the issuing CA", "by the root"])
def test_an_own_ca_makes_no_administrators_although_it_is_listed(anchor: Authority, issuer: Authority) -> None:
    assert judged(rule(anchor, ADMIN_CA), verified(issuer.leaf("device"))) == "enrolment_certificate"


def test_an_own_ca_under_another_certificate_makes_none_either() -> None:
    renewed, cross_signed = OWN_ROOT.certify(OWN_CA), ADMIN_ROOT.certify(OWN_CA)
    renamed = Authority(ADMIN_ROOT.leaf("Somebody Else", ca=True, key=OWN_CA.key).certificate, OWN_CA.key)
    for other in (renewed, cross_signed, renamed):
        assert other.certificate != OWN_CA.certificate
        assert judged(rule(other, ADMIN_CA), verified(other.leaf("device"))) == "enrolment_certificate"


def test_a_previous_ca_that_is_still_known_makes_none() -> None:
    previous = OWN_ROOT.subordinate("Own Issuing CA")
    under = rule(previous, own=(*OWN, previous.certificate))
    assert judged(under, verified(previous.leaf("device"))) == "enrolment_certificate"


def test_an_own_ca_below_the_admin_ca_makes_none_and_takes_nothing_from_the_admin_ca() -> None:
    below = ADMIN_CA.subordinate("Own CA below the admin CA")
    under = rule(ADMIN_CA, own=[below.certificate])
    assert judged(under, verified(below.leaf("device"))) == "enrolment_certificate"
    assert isinstance(judged(under, verified(ADMIN_CA.leaf("Ana"))), Administrator)


def test_an_admin_ca_below_the_own_root_works_when_it_is_listed_itself() -> None:
    admin_ca = OWN_ROOT.subordinate("Admin CA of the same root")
    assert judged(rule(OWN_ROOT), verified(admin_ca.leaf("Ana"))) == "unknown_issuer"
    assert isinstance(judged(rule(admin_ca), verified(admin_ca.leaf("Ana"))), Administrator)


def test_an_anchor_renewed_around_the_same_key_is_the_same_ca_and_a_new_key_is_another() -> None:
    ana = ADMIN_CA.leaf("Ana")
    assert isinstance(judged(rule(ADMIN_ROOT.certify(ADMIN_CA)), verified(ana)), Administrator)
    assert judged(rule(ADMIN_ROOT.subordinate("Admin CA")), verified(ana)) == "unknown_issuer"


def test_the_name_of_a_listed_ca_around_another_key_is_another_ca() -> None:
    impostor = make_root("Admin CA")
    assert judged(rule(ADMIN_CA), verified(impostor.leaf("Ana"))) == "unknown_issuer"


def test_anchors_are_those_of_now_and_not_those_of_the_handshake() -> None:
    anchors = [ADMIN_CA.certificate]
    under = AdminRule(anchors=lambda: anchors, own_issuers=lambda: OWN)
    chain = verified(ADMIN_CA.leaf("Ana"))
    assert isinstance(judged(under, chain), Administrator)
    anchors.clear()
    assert judged(under, chain) == "unknown_issuer"


@pytest.mark.parametrize(
    ("leaf", "code"),
    [
        (ADMIN_CA.leaf("old", not_before=datetime.now(UTC) - timedelta(days=100), days=99), "not_in_time"),
        (ADMIN_CA.leaf("early", not_before=datetime.now(UTC) + timedelta(days=1)), "not_in_time"),
        (ADMIN_CA.leaf("a CA", ca=True), "ca_certificate"),
        (ADMIN_CA.leaf("server", eku=[ExtendedKeyUsageOID.SERVER_AUTH]), "not_for_clients"),
        (ADMIN_CA.leaf("any", eku=[ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE]), "not_for_clients"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_certificate_that_is_not_for_this_is_no_credential(leaf: Leaf, code: str) -> None:
    assert judged(rule(), verified(leaf)) == code


def test_without_extended_key_usages_a_certificate_is_for_clients_too() -> None:
    assert isinstance(judged(rule(), verified(ADMIN_CA.leaf("Ana", eku=[]))), Administrator)


def test_a_listed_ca_that_has_ended_makes_no_administrators() -> None:
    short = ADMIN_ROOT.subordinate("Short CA", days=1)
    later = datetime.now(UTC) + timedelta(days=2)
    assert isinstance(judged(rule(short), verified(short.leaf("Ana"))), Administrator)
    assert judged(rule(short), verified(short.leaf("Ana")), later) == "unknown_issuer"


def test_a_leaf_that_is_its_own_anchor_is_no_credential() -> None:
    ana = ADMIN_CA.leaf("Ana")
    alone = AdminRule(anchors=lambda: [ana.certificate], own_issuers=lambda: OWN)
    assert judged(alone, verified(ana, up_to=1)) == "no_issuer"


def test_whoever_is_in_neither_list_is_known_and_may_nothing() -> None:
    under = rule(operators=["CN=Ana,O=Example"], viewers=["CN=Ben,O=Example"])
    assert judged(under, verified(ADMIN_CA.leaf(subject=ANA))) == Administrator("CN=Ana,O=Example", Role.OPERATOR)
    assert judged(under, verified(ADMIN_CA.leaf(subject=BEN))) == Administrator("CN=Ben,O=Example", Role.VIEWER)
    with pytest.raises(NotAllowed) as caught:
        under.administrator(verified(ADMIN_CA.leaf("Eve")), datetime.now(UTC))
    assert (caught.value.code, caught.value.actor) == ("not_listed", "CN=Eve")


def test_one_list_alone_leaves_out_everybody_else() -> None:
    ana, ben = verified(ADMIN_CA.leaf(subject=ANA)), verified(ADMIN_CA.leaf(subject=BEN))
    viewers_only = rule(viewers=["CN=Ben,O=Example"])
    assert judged(viewers_only, ben) == Administrator("CN=Ben,O=Example", Role.VIEWER)
    assert judged(viewers_only, ana) == "not_listed"
    assert judged(rule(operators=["CN=Ana,O=Example"]), ben) == "not_listed"


def test_whoever_is_in_both_lists_is_an_operator() -> None:
    both = rule(operators=["CN=Ana,O=Example"], viewers=["CN=Ana,O=Example"])
    assert judged(both, verified(ADMIN_CA.leaf(subject=ANA))) == Administrator("CN=Ana,O=Example", Role.OPERATOR)


def test_a_list_makes_nobody_an_administrator_whom_the_admin_ca_did_not_certify() -> None:
    under = rule(OWN_CA, ADMIN_CA, operators=["CN=Ana,O=Example"])
    assert judged(under, verified(OWN_CA.leaf(subject=ANA))) == "enrolment_certificate"
    assert judged(under, verified(ADMIN_ROOT.leaf(subject=ANA))) == "unknown_issuer"


@pytest.mark.parametrize(
    ("written", "is_ana"),
    [
        ("CN=Ana,O=Example", True),
        ("CN=Ana, O=Example", False),  # RFC 4514 has no space there: it would belong to the type
        ("2.5.4.3=Ana,O=Example", True),
        ("CN=\\41na,O=Example", True),
        ("O=Example,CN=Ana", False),  # another order is another name
        ("CN=ana,O=Example", False),  # of two names that differ in case one may be somebody else's
        ("CN=Ana,O=example", False),
        ("CN=Ana", False),
        ("O=Example", False),
        ("CN=Ana,O=Example,C=SE", False),
        ("CN=Ana+O=Example", False),
        ("CN=Ana\\,O=Example", False),
    ],
)
def test_subjects_are_compared_as_names_and_not_as_text(written: str, is_ana: bool) -> None:
    try:
        under = rule(operators=[written])
    except ValueError:  # refused when kipuka.toml is read
        assert not is_ana
        return
    assert isinstance(judged(under, verified(ADMIN_CA.leaf(subject=ANA))), Administrator) is is_ana


def test_neither_string_types_nor_the_order_within_a_multi_valued_part_matter() -> None:
    ana, example = (NameOID.COMMON_NAME, "Ana"), (NameOID.ORGANIZATION_NAME, "Example")
    printable = x509.Name(
        [x509.NameAttribute(oid, text, x509.name._ASN1Type.PrintableString) for oid, text in (example, ana)]
    )
    assert printable.public_bytes() != ANA.public_bytes()
    assert isinstance(
        judged(rule(operators=["CN=Ana,O=Example"]), verified(ADMIN_CA.leaf(subject=printable))), Administrator
    )
    together = x509.Name([x509.RelativeDistinguishedName([x509.NameAttribute(*example), x509.NameAttribute(*ana)])])
    for written in ("CN=Ana+O=Example", "O=Example+CN=Ana"):
        assert isinstance(judged(rule(operators=[written]), verified(ADMIN_CA.leaf(subject=together))), Administrator)


def test_an_administrator_without_a_subject_is_named_by_the_serial_number() -> None:
    leaf = ADMIN_CA.leaf(subject=x509.Name([]))
    who = judged(rule(), verified(leaf))
    assert isinstance(who, Administrator)
    assert who.name == f"serial {leaf.certificate.serial_number:x}"
    assert judged(rule(operators=["CN=Ana"]), verified(leaf)) == "not_listed"


def test_a_name_of_any_length_stays_short_in_the_audit_trail() -> None:
    long = x509.Name([x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, "x" * 60) for _ in range(100)])
    who = judged(rule(), verified(ADMIN_CA.leaf(subject=long)))
    assert isinstance(who, Administrator)
    assert len(who.name) < 300


@pytest.mark.parametrize(
    ("role", "method", "may"),
    [
        (Role.OPERATOR, "GET", True),
        (Role.OPERATOR, "DELETE", True),
        (Role.VIEWER, "GET", True),
        (Role.VIEWER, "HEAD", True),
        (Role.VIEWER, "POST", False),
        (Role.VIEWER, "DELETE", False),
        (Role.VIEWER, "OPTIONS", False),
        (Role.VIEWER, "get", False),
    ],
)
def test_viewers_look_and_operators_do(role: Role, method: str, may: bool) -> None:
    assert Administrator("CN=Ana", role).may(method) is may


def test_anchors_that_make_no_administrators_are_named() -> None:
    (warning,) = idle_anchors([ADMIN_CA.certificate, OWN_CA.certificate, OWN_CA.certificate], OWN)
    assert warning.startswith("admin.client_auth.trust_anchors: CN=Own Issuing CA is an issuer of a [[ca]]")

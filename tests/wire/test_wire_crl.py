"""CRLs as bytes: what cryptography and its parser make of them."""

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from kipuka_core.edges.status.signing import sign
from kipuka_core.model.signing_hash import signing_hash
from kipuka_core.testing.pki import Authority, make_root
from kipuka_core.testing.samples import NOW
from kipuka_core.wire.crl import certificate_list, crl_entry, tbs_cert_list
from kipuka_core.wire.signature_algorithms import signature_algorithm

KEY_TYPES = ("rsa2048", "ecdsa256", "ecdsa384", "ecdsa521", "ed25519", "ed448", "ml-dsa-44", "ml-dsa-65", "ml-dsa-87")
ROOT = make_root()


def make(entries: list[bytes], *, root: Authority = ROOT, number: int = 1, next_update: datetime = NOW) -> bytes:
    hash_algorithm = signing_hash(root.key)
    algorithm = signature_algorithm(root.key.public_key(), hash_algorithm.name if hash_algorithm else None)
    tbs = tbs_cert_list(
        issuer=root.certificate.subject,
        authority_key_id=x509.AuthorityKeyIdentifier.from_issuer_public_key(root.key.public_key()),
        algorithm_der=algorithm,
        number=number,
        this_update=NOW,
        next_update=next_update,
        entries=entries,
    )
    return certificate_list(tbs, algorithm, sign(root.key, hash_algorithm, tbs))


@pytest.mark.parametrize("key_type", KEY_TYPES)
def test_a_crl_of_every_kind_of_key_is_signed_and_complete(key_type: str) -> None:
    root = make_root(key_type=key_type)
    crl = x509.load_der_x509_crl(make([crl_entry(5, NOW, 1)], root=root, number=2**70))
    assert crl.is_signature_valid(root.certificate.public_key())  # type: ignore[arg-type]
    assert crl.issuer == root.certificate.subject
    assert crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number == 2**70
    assert not any(extension.critical for extension in crl.extensions)
    assert {type(extension.value) for extension in crl.extensions} == {x509.CRLNumber, x509.AuthorityKeyIdentifier}
    assert (crl.last_update_utc, crl.next_update_utc) == (NOW, NOW)


def test_nothing_revoked_is_no_list_at_all() -> None:
    assert len(x509.load_der_x509_crl(make([]))) == 0
    assert len(make([])) < len(make([crl_entry(1, NOW, None)]))


@given(
    serial=st.integers(1, 2**159 - 1),
    reason=st.sampled_from([None, 0, 1, 2, 3, 4, 5, 6, 9, 10]),
    revoked_at=st.datetimes(datetime(1990, 1, 1), datetime(2120, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
)
def test_every_entry_is_read_back(serial: int, reason: int | None, revoked_at: datetime) -> None:
    (entry,) = x509.load_der_x509_crl(make([crl_entry(serial, revoked_at, reason)]))
    assert entry.serial_number == serial
    assert entry.revocation_date_utc == revoked_at.replace(microsecond=0)
    if not reason:  # RFC 5280 5.3.1: unspecified is told by absence
        assert list(entry.extensions) == []
    else:
        (extension,) = entry.extensions
        assert (extension.critical, extension.value.public_bytes()) == (False, bytes((10, 1, reason)))


def test_moments_after_2049_are_generalized_time() -> None:
    crl = make([], next_update=datetime(2050, 1, 1, tzinfo=UTC))
    assert x509.load_der_x509_crl(crl).next_update_utc == datetime(2050, 1, 1, tzinfo=UTC)
    assert b"\x18\x0f20500101000000Z" in crl
    assert b"\x17\x0d491231235959Z" in make([], next_update=datetime(2050, 1, 1, tzinfo=UTC) - timedelta(seconds=1))


def test_a_key_without_an_algorithm_is_refused() -> None:
    with pytest.raises(ValueError, match="no signature algorithm"):
        signature_algorithm(ROOT.key.public_key(), "md5")
    with pytest.raises(ValueError, match="no signature algorithm"):
        signature_algorithm(ROOT.key.public_key(), None)

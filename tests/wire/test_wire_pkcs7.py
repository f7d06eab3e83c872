import subprocess

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7

from kipuka_core.testing.pki import make_root
from kipuka_core.wire.pkcs7 import certs_only

ROOT = make_root()
ISSUING = ROOT.subordinate()
LEAF = ISSUING.leaf("device")


def test_openssl_reads_the_certificates_out_of_the_pkcs7() -> None:
    der = certs_only([LEAF.certificate, *LEAF.chain])
    command = ["openssl", "pkcs7", "-inform", "DER", "-print_certs", "-noout"]
    printed = subprocess.run(command, input=der, capture_output=True, check=True).stdout.decode()
    subjects = {line.removeprefix("subject=") for line in printed.splitlines() if line.startswith("subject=")}
    assert subjects == {"CN = device", "CN = Test Issuing CA", "CN = Test Root CA"}


def test_nothing_is_signed_and_nothing_is_encapsulated() -> None:
    """RFC 5652 5.1: version 1, no digest algorithms, id-data without content, certificates, no signers."""
    der = certs_only([LEAF.certificate])
    before, certificate, after = der.partition(LEAF.certificate.public_bytes(Encoding.DER))
    assert certificate
    assert bytes.fromhex("06092a864886f70d010702") in before
    assert bytes.fromhex("0201013100300b06092a864886f70d010701a0") in before
    assert after in {b"\x31\x00", b"\xa1\x00\x31\x00"}


def test_a_certificate_is_sent_once() -> None:
    der = certs_only([LEAF.certificate, LEAF.certificate])
    assert pkcs7.load_der_pkcs7_certificates(der) == [LEAF.certificate]


def test_no_certificates_at_all_are_an_error() -> None:
    with pytest.raises(ValueError, match="at least one certificate"):
        certs_only([])

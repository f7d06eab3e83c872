"""A CA for the backend ``command`` that is away while a file ``away`` lies beside its key; it counts who asks.

Run as ``python switched_ca.py DIRECTORY`` with the backend's question on standard input.
"""

from __future__ import annotations

import json
import sys
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import ExtendedKeyUsageOID

AWAY = 12


def main() -> int:
    """The exit code."""
    directory = Path(sys.argv[1])
    question = json.load(sys.stdin)
    if question["action"] != "issue":
        return 0
    is_away = (directory / "away").exists()
    with (directory / "asked").open("a") as asked:
        asked.write("away\n" if is_away else "issued\n")
    if is_away:
        return AWAY
    issuer = x509.load_pem_x509_certificate((directory / "ca.pem").read_bytes())
    key = serialization.load_pem_private_key((directory / "ca.key").read_bytes(), None)
    csr, template = x509.load_pem_x509_csr(question["csr"].encode()), question["template"]
    usage = dict.fromkeys(
        ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "key_cert_sign", "crl_sign"),
        False,
    )
    builder = (
        x509.CertificateBuilder()
        .subject_name(csr.subject)
        .issuer_name(issuer.subject)
        .public_key(csr.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.fromisoformat(template["not_before"]))
        .not_valid_after(datetime.fromisoformat(template["not_after"]))
        .add_extension(
            x509.KeyUsage(digital_signature=True, encipher_only=False, decipher_only=False, **usage), critical=True
        )
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
    )
    certificate = builder.sign(key, hashes.SHA256())  # type: ignore[arg-type]  # an EC key
    sys.stdout.write(certificate.public_bytes(serialization.Encoding.PEM).decode())
    return 0


if __name__ == "__main__":
    sys.exit(main())

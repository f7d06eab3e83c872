"""What the tests of the CA backend ``local`` share."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from kipuka_builtin.local_ca import PROVIDER, LocalCa, LocalCaSettings
from kipuka_core import ConfigurationError
from kipuka_core.model.key_usage import key_usage_extension
from kipuka_core.model.signing_hash import signing_hash
from kipuka_core.testing import pki
from kipuka_core.testing.samples import write_private
from kipuka_core.testing.services import make_services

NOW = datetime.now(UTC).replace(microsecond=0)
ROOT = pki.make_root()
ISSUING = ROOT.subordinate()
OTHER_ROOT = pki.make_root("Another Root")
URLS = {
    "cdp_urls": ["http://ca.example/issuing.crl"],
    "aia_urls": ["http://ca.example/issuing.cer"],
    "ocsp_urls": ["http://ocsp.example/"],
}


def write_ca(directory: Path, authority: pki.Authority) -> dict[str, Any]:
    """Files of a CA in a directory, and the table that names them."""
    (directory / "ca.pem").write_bytes(authority.pem)
    (directory / "chain.pem").write_bytes(b"".join(each.public_bytes(Encoding.PEM) for each in authority.above))
    write_private(directory / "ca.key", pki.key_pem(authority.key))
    table = {"id": "main", "cert": "ca.pem", "key": "ca.key"}
    return table | ({"chain": "chain.pem"} if authority.above else {})


@asynccontextmanager
async def opened(directory: Path, table: Mapping[str, Any], **services: Any) -> AsyncIterator[LocalCa]:
    async with PROVIDER.open(LocalCaSettings(**table), make_services(directory, **services)) as backend:
        assert isinstance(backend, LocalCa)
        yield backend


async def refusal(directory: Path, table: Mapping[str, Any], **services: Any) -> str:
    with pytest.raises(ConfigurationError) as caught:
        async with opened(directory, table, **services):
            pass
    assert "\n" not in str(caught.value)
    return str(caught.value)


CA_EXTENSIONS = [
    (x509.BasicConstraints(ca=True, path_length=None), True),
    (key_usage_extension({"keyCertSign"}), True),
]


def make_ca(common_name: str, extensions: Sequence[tuple[x509.ExtensionType, bool]]) -> pki.Authority:
    """A self-signed certificate with exactly these extensions."""
    key = pki.make_key()
    subject = pki.name(common_name)
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(subject).serial_number(1)
    builder = builder.public_key(key.public_key()).not_valid_before(NOW).not_valid_after(NOW + timedelta(days=90))
    for value, critical in extensions:
        builder = builder.add_extension(value, critical=critical)
    return pki.Authority(builder.sign(key, signing_hash(key)), key)

"""CA backend ``local``: what it refuses to start with."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Never

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from kipuka_core import Signer, Unavailable
from kipuka_core.model.key_usage import key_usage_extension
from kipuka_core.testing import pki
from kipuka_core.testing.samples import write_private
from tests.plugins.local_ca_kit import CA_EXTENSIONS, ISSUING, NOW, OTHER_ROOT, ROOT, make_ca, opened, refusal, write_ca


@pytest.mark.parametrize(
    ("setting", "content", "problem"),
    [
        ("cert", None, r"cannot be read: No such file or directory"),
        ("chain", None, r"cannot be read: No such file or directory"),
        ("previous", None, r"cannot be read: No such file or directory"),
        ("cert", b"\x30\x00", "does not hold PEM certificates"),
        ("cert", pki.key_pem(ISSUING.key), "does not hold PEM certificates"),
        ("chain", b"", "does not hold PEM certificates"),
    ],
)
async def test_a_missing_or_unreadable_file_is_named(
    tmp_path: Path, setting: str, content: bytes | None, problem: str
) -> None:
    if content is not None:
        (tmp_path / "other.pem").write_bytes(content)
    message = await refusal(tmp_path, write_ca(tmp_path, ISSUING) | {setting: "other.pem"})
    assert message == f"ca.main.{setting}: {tmp_path}/other.pem {problem}"


async def test_a_key_of_another_certificate_is_refused(tmp_path: Path) -> None:
    table = write_ca(tmp_path, ISSUING)
    for key_type in ("ecdsa256", "rsa2048"):
        write_private(tmp_path / "ca.key", pki.key_pem(pki.make_key(key_type)))
        assert await refusal(tmp_path, table) == "ca.main.key: is not the key of the certificate in ca.pem"


async def test_a_key_store_that_signs_with_another_key_than_it_shows_is_refused(tmp_path: Path) -> None:
    async def open_signer(key_uri: str) -> Signer:
        return Signer(Impostor())

    message = await refusal(tmp_path, write_ca(tmp_path, ISSUING), open_signer=open_signer)
    assert message == "ca.main.key: is not the key of the certificate in ca.pem"


Buffer = bytes | bytearray | memoryview


class Impostor(ec.EllipticCurvePrivateKey):
    """Shows one key and signs with another, as a token does when two objects have one label."""

    _other = ec.generate_private_key(ec.SECP256R1())
    curve = ec.SECP256R1()
    key_size = 256

    def public_key(self) -> ec.EllipticCurvePublicKey:
        shown = ISSUING.key.public_key()
        assert isinstance(shown, ec.EllipticCurvePublicKey)
        return shown

    def sign(self, data: Buffer, signature_algorithm: ec.EllipticCurveSignatureAlgorithm) -> bytes:
        return self._other.sign(data, signature_algorithm)

    def _refuse(self, *_arguments: Any, **_named: Any) -> Never:
        raise AssertionError("a CA key signs")

    exchange = private_numbers = private_bytes = __copy__ = __deepcopy__ = _refuse


async def test_a_chain_that_ends_before_the_root_names_what_is_missing(tmp_path: Path) -> None:
    table = write_ca(tmp_path, ISSUING) | {"chain": []}
    message = "ca.main.chain: ends before the root; add the certificate of CN=Test Root CA"
    assert await refusal(tmp_path, table) == message


async def test_a_chain_in_the_wrong_order_or_of_another_ca_is_refused(tmp_path: Path) -> None:
    lowest = ISSUING.subordinate("Lowest CA")
    table = write_ca(tmp_path, lowest)
    (tmp_path / "chain.pem").write_bytes(ROOT.pem + ISSUING.pem)
    assert "CN=Test Root CA did not issue CN=Lowest CA" in await refusal(tmp_path, table)
    (tmp_path / "chain.pem").write_bytes(OTHER_ROOT.pem)
    assert "CN=Another Root did not issue CN=Lowest CA" in await refusal(tmp_path, table)


async def test_a_path_length_that_the_chain_exceeds_is_refused(tmp_path: Path) -> None:
    lowest = ISSUING.subordinate("Lowest CA")
    message = await refusal(tmp_path, write_ca(tmp_path, lowest))
    assert message == (
        "ca.main.chain: the certificate of CN=Test Issuing CA allows only 0 CAs below it (pathLenConstraint)"
        f" ({tmp_path / 'chain.pem'})"
    )


@pytest.mark.parametrize(
    ("extensions", "problem"),
    [
        ([], "it has no basicConstraints or no keyUsage"),
        (CA_EXTENSIONS[:1], "it has no basicConstraints or no keyUsage"),
        (CA_EXTENSIONS[1:], "it has no basicConstraints or no keyUsage"),
        ([(x509.BasicConstraints(False, None), True), CA_EXTENSIONS[1]], "it needs basicConstraints CA:TRUE"),
        ([CA_EXTENSIONS[0], (key_usage_extension({"cRLSign"}), True)], "it needs basicConstraints CA:TRUE"),
    ],
)
async def test_a_certificate_that_is_not_a_ca_s_is_refused(tmp_path: Path, extensions: list[Any], problem: str) -> None:
    message = await refusal(tmp_path, write_ca(tmp_path, make_ca("Not A CA", extensions)))
    assert message.startswith("ca.main.cert: the certificate of CN=Not A CA is not a CA's: ")
    assert problem in message


@pytest.mark.parametrize(
    ("clock", "problem"),
    [
        (datetime(2001, 1, 1, tzinfo=UTC), "ca.main.cert: the certificate of CN=Test Issuing CA is not valid before "),
        (datetime(2101, 1, 1, tzinfo=UTC), "ca.main.cert: the certificate of CN=Test Issuing CA expired on "),
    ],
)
async def test_a_ca_out_of_time_is_refused(tmp_path: Path, clock: datetime, problem: str) -> None:
    assert (await refusal(tmp_path, write_ca(tmp_path, ISSUING), clock=lambda: clock)).startswith(problem)


async def test_an_expired_root_above_the_ca_is_refused_too(tmp_path: Path) -> None:
    short = pki.make_root("Short Root", days=10)
    table = write_ca(tmp_path, short.subordinate(days=1000))
    message = await refusal(tmp_path, table, clock=lambda: NOW + timedelta(days=20))
    assert message.startswith("ca.main.chain: the certificate of CN=Short Root expired on ")


async def test_a_ca_in_its_last_thirty_days_is_warned_of(tmp_path: Path) -> None:
    end = ISSUING.certificate.not_valid_after_utc
    for days_left, warned in ((31, 0), (29, 1)):
        warnings: list[str] = []
        services = {"clock": lambda left=days_left: end - timedelta(days=left), "warn": warnings.append}
        async with opened(tmp_path, write_ca(tmp_path, ISSUING), **services):
            pass
        assert len(warnings) == warned
        assert all(
            each == f"ca.main.cert: the certificate of CN=Test Issuing CA expires on {end:%Y-%m-%d}; renew it"
            for each in warnings
        )


async def test_ping_notices_a_key_that_went_away(tmp_path: Path) -> None:
    class Unplugged(Impostor):
        def sign(self, data: Buffer, signature_algorithm: ec.EllipticCurveSignatureAlgorithm) -> Never:
            raise OSError("token removed, PIN 1234")

    for key, message in ((Unplugged(), "the CA key does not answer"), (Impostor(), "is not the one of the CA")):
        async with opened(tmp_path, write_ca(tmp_path, ISSUING)) as backend:
            backend._key = key
            with pytest.raises(Unavailable, match=message):
                await backend.ping()

"""Many devices at once: their one-time passwords, their requests, and what the store knows of them afterwards."""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7

from kipuka_core.domain.one_time_passwords import new_one_time_password
from kipuka_core.edges.store import default_sqlite_url, open_store
from kipuka_core.model.event import OtpCreated
from kipuka_core.model.record import OneTimePassword, RecordedCertificate
from kipuka_core.testing.client import basic
from kipuka_core.testing.pki import make_csr
from kipuka_core.testing.server import Deployment

_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Device:
    """A device with what it needs for its first enrolment."""

    name: str
    token: str
    csr_der: bytes

    @property
    def request(self) -> bytes:
        """Its whole simpleenroll request, as it goes over the connection."""
        body = base64.encodebytes(self.csr_der)
        head = (
            "POST /.well-known/est/simpleenroll HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
            f"Content-Type: application/pkcs10\r\nContent-Length: {len(body)}\r\n"
            f"Authorization: {basic(self.name, self.token)}\r\n\r\n"
        )
        return head.encode() + body


@dataclass(frozen=True, slots=True)
class Answer:
    """What a device received; a status of 0 stands for an answer that did not arrive whole."""

    status: int
    certificate: x509.Certificate | None = None


@dataclass(frozen=True, slots=True)
class Books:
    """What the store holds: one-time passwords and certificates by the device they are for, open reservations."""

    passwords: dict[str, OneTimePassword]
    records: dict[str, list[RecordedCertificate]]

    def issued(self) -> int:
        """How many certificates there are."""
        return sum(map(len, self.records.values()))

    def used(self) -> int:
        """How often one-time passwords were used up."""
        return sum(password.usage_count for password in self.passwords.values())

    def holds(self, certificate: x509.Certificate) -> bool:
        """Whether this very certificate is recorded."""
        der = {record.certificate_der for records in self.records.values() for record in records}
        return certificate.public_bytes(Encoding.DER) in der


async def make_fleet(deployment: Deployment, size: int, *, shared_password: bool = False) -> list[Device]:
    """Devices with a one-time password each, or one for all; the keys are not needed once the CSRs are signed."""
    passwords = [_password("device" if shared_password else f"device-{number:03}") for number in range(size)]
    if shared_password:
        passwords = passwords[:1] * size
    async with open_store(default_sqlite_url(deployment.directory / "state")) as store:
        await asyncio.gather(*(store.add_otp(otp, _created(otp)) for otp in dict(passwords)))
    return [
        Device(otp.entity_id, token, make_csr(common_name=otp.entity_id, san=[f"dns:{otp.entity_id}"]))
        for otp, token in passwords
    ]


def _password(entity_id: str) -> tuple[OneTimePassword, str]:
    return new_one_time_password(entity_id, now=datetime.now(UTC), ttl_seconds=3600)


def _created(otp: OneTimePassword) -> OtpCreated:
    return OtpCreated(
        time=otp.created_at, actor="test", otp_id=otp.id, entity_id=otp.entity_id, expires_at=str(otp.expires_at)
    )


async def read_books(deployment: Deployment) -> Books:
    """What is on disk, read by a process that is not the server."""
    async with open_store(default_sqlite_url(deployment.directory / "state")) as store:
        passwords = {otp.entity_id: otp for otp in await store.list_otps()}
        found = await store.search_certificates(limit=1000)
    records: dict[str, list[RecordedCertificate]] = {name: [] for name in passwords}
    for record in found:
        records[record.entity_id].append(record)
    return Books(passwords, records)


async def enrol(device: Device, port: int, context: ssl.SSLContext) -> Answer:
    """One device, one connection, one request; an answer that is cut off is no error here."""
    with suppress(OSError, EOFError, TimeoutError):
        async with asyncio.timeout(_SECONDS):
            reader, writer = await asyncio.open_connection("localhost", port, ssl=context)
            try:
                writer.write(device.request)
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(
                    int(line[15:]) for line in head.lower().splitlines() if line.startswith(b"content-length:")
                )
                return _read(head, await reader.readexactly(length))
            finally:
                writer.transport.abort()
    return Answer(0)


async def enrol_all(devices: Sequence[Device], port: int, context: ssl.SSLContext) -> list[Answer]:
    """All of them at once."""
    return list(await asyncio.gather(*(enrol(device, port, context) for device in devices)))


def _read(head: bytes, body: bytes) -> Answer:
    status = int(head.split(b" ", 2)[1])
    if status != 200:
        return Answer(status)
    (certificate,) = pkcs7.load_der_pkcs7_certificates(base64.b64decode(body))
    return Answer(status, certificate)

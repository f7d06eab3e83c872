"""What Vault refuses, what it is not asked for, and what is known when it is away or misbehaves."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from kipuka_core import (
    Approved,
    CaBackend,
    ConfigurationError,
    CsrRefused,
    Event,
    Issued,
    NotAllowed,
    OutcomeUnknown,
    RequestRefused,
    Unavailable,
)
from kipuka_core.testing.contracts.ca_backend import check_as_approved
from kipuka_core.testing.pki import make_csr, make_key, make_root, name
from kipuka_core.testing.samples import sample_csr, sample_enrolment, sample_template
from kipuka_core.testing.server import wait_until
from kipuka_core.testing.services import make_services
from kipuka_vault.provider import PROVIDER
from tests.vault.test_vault_contract import BY_ROLE
from tests.vault.vault_stand_in import (
    ROOT_TOKEN,
    SECRET_ID,
    Handler,
    Vault,
    running_vault,
    settings_for,
)

FURTHER = x509.ObjectIdentifier("1.3.6.1.4.1.99999.1")


@dataclass
class Opened:
    """Opens backends and keeps what they say."""

    directory: Path
    events: list[Event] = field(default_factory=list)

    def open(self, settings: Mapping[str, Any]) -> AbstractAsyncContextManager[CaBackend]:
        async def emit(event: Event) -> None:
            self.events.append(event)

        return PROVIDER.open(PROVIDER.settings(**settings), make_services(self.directory, emit=emit))

    @property
    def said(self) -> str:
        return "\n".join(event.reason for event in self.events)


async def approved_for(
    backend: CaBackend,
    san: Sequence[str] = ("dns:device.example",),
    *,
    extensions: Sequence[tuple[x509.ExtensionType, bool]] = (),
    subject: x509.Name | None = None,
    **fields: Any,
) -> Approved:
    csr = sample_csr(make_csr(make_key(), "device", san, extensions=extensions, subject=subject))
    start = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=5)
    values = {"not_before": start, "not_after": start + timedelta(days=30)} | fields
    enrolment = replace(sample_enrolment(csr), request_id=uuid4().hex, time=datetime.now(UTC))
    template = backend.may_set.applied(sample_template(csr, **values))
    return Approved(template=template, enrolment=enrolment, issuer=(await backend.chain()).issuing)


async def refusal(backend: CaBackend, **wanted: Any) -> RequestRefused:
    with pytest.raises(RequestRefused) as raised:
        await backend.issue(await approved_for(backend, **wanted))
    return raised.value


# -- what is asked for -------------------------------------------------------------------------------------------------
async def test_extensions_of_the_csr_come_back_where_they_were_approved(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    value = x509.UnrecognizedExtension(FURTHER, b"\x05\x00")
    further = x509.Extension(FURTHER, critical=False, value=value)
    async with Opened(tmp_path).open(settings) as backend:
        approved = await approved_for(backend, extensions=[(value, False)])
        approved = replace(approved, template=replace(approved.template, extensions=(further,)))
        issued = await backend.issue(approved)
    assert isinstance(issued, Issued)
    check_as_approved(issued.certificate, approved, backend.may_set)


@pytest.mark.parametrize(
    ("wanted", "problem"),
    [
        ({"san": ("dns:a.example",), "approved_san": (x509.DNSName("b.example"),)}, "SubjectAltName"),
        ({"approved_subject": name("other")}, "subject"),
        ({"extensions": [(x509.UnrecognizedExtension(FURTHER, b"\x05\x00"), False)]}, "extensions"),
        ({"extensions": [(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False)]}, "extended key usage"),
    ],
)
async def test_what_vault_would_take_from_the_csr_instead_is_not_asked_for(
    vault: Vault, settings: dict[str, Any], tmp_path: Path, wanted: dict[str, Any], problem: str
) -> None:
    changes = {key.removeprefix("approved_"): wanted[key] for key in wanted if key.startswith("approved_")}
    in_csr = {key: value for key, value in wanted.items() if not key.startswith("approved_")}
    async with Opened(tmp_path).open(settings) as backend:
        approved = await approved_for(backend, **in_csr)
        with pytest.raises(CsrRefused, match=problem):
            await backend.issue(replace(approved, template=replace(approved.template, **changes)))
    assert vault.issued == []


async def test_a_role_keeps_the_common_name_only(vault: Vault, settings: dict[str, Any], tmp_path: Path) -> None:
    async with Opened(tmp_path).open(settings | BY_ROLE) as backend:
        issued = await backend.issue(await approved_for(backend, subject=name("device", O="Example")))
        assert isinstance(issued, Issued)
        assert issued.certificate.subject == name("device")
        extension = x509.Extension(FURTHER, critical=False, value=x509.UnrecognizedExtension(FURTHER, b"\x05\x00"))
        approved = await approved_for(backend)
        with pytest.raises(NotAllowed):
            await backend.issue(replace(approved, template=replace(approved.template, extensions=(extension,))))


async def test_a_name_that_the_role_does_not_allow_is_refused(
    vault: Vault, settings: dict[str, Any], tmp_path: Path
) -> None:
    vault.allowed_domains = (".factory",)
    opened = Opened(tmp_path)
    async with opened.open(settings | BY_ROLE) as backend:
        assert type(await refusal(backend)) is CsrRefused
    assert "not allowed by this role" in opened.said


async def test_a_revocation_reaches_vault(vault: Vault, settings: dict[str, Any], tmp_path: Path) -> None:
    async with Opened(tmp_path).open(settings) as backend:
        issued = await backend.issue(await approved_for(backend))
        assert isinstance(issued, Issued)
        await backend.revoke(issued.certificate, 1)
        with pytest.raises(NotAllowed):
            await backend.revoke(make_root("Other").leaf("device").certificate, 1)
        vault.sealed = True
        with pytest.raises(Unavailable):
            await backend.revoke(issued.certificate, 1)
    (serial,) = vault.revoked
    assert int(serial.replace(":", ""), 16) == issued.certificate.serial_number


# -- tokens ------------------------------------------------------------------------------------------------------------
async def test_a_token_from_a_file_signs(vault: Vault, settings: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "token").write_text(f"{ROOT_TOKEN}\n")
    (tmp_path / "token").chmod(0o600)
    only = {"url": vault.url, "mount_point": vault.mount, "auth": "token", "token_file": str(tmp_path / "token")}
    async with Opened(tmp_path).open(only) as backend:
        assert isinstance(await backend.issue(await approved_for(backend)), Issued)
    assert vault.count("login") == 0


async def test_a_client_certificate_logs_in(tmp_path: Path) -> None:
    clients = make_root("Clients")
    client = clients.leaf("kipuka")
    (tmp_path / "client.pem").write_bytes(client.certificate_pem)
    (tmp_path / "client-key.pem").write_bytes(client.key_pem)
    (tmp_path / "client-key.pem").chmod(0o600)
    with running_vault(tls_directory=tmp_path, clients=clients) as vault:
        (tmp_path / "root.pem").write_bytes(vault.root.pem)
        settings = {
            "url": vault.url, "mount_point": vault.mount, "auth": "cert", "trust_anchors": "root.pem",
            "client_cert": "client.pem", "client_key": "client-key.pem",
        }  # fmt: skip
        async with Opened(tmp_path).open(settings) as backend:
            assert isinstance(await backend.issue(await approved_for(backend)), Issued)
        (tmp_path / "root.pem").write_bytes(clients.pem)
        with pytest.raises(ConfigurationError, match="SSLError"):
            async with Opened(tmp_path).open(settings):
                pass


async def test_a_namespace_is_told(tmp_path: Path) -> None:
    with running_vault(namespace="factory") as vault:
        settings = settings_for(vault, tmp_path)
        with pytest.raises(ConfigurationError, match="cannot be asked"):
            async with Opened(tmp_path).open(settings):
                pass
        async with Opened(tmp_path).open(settings | {"namespace": "factory"}) as backend:
            assert isinstance(await backend.issue(await approved_for(backend)), Issued)


async def test_a_token_that_was_taken_away_is_taken_anew(
    vault: Vault, settings: dict[str, Any], tmp_path: Path
) -> None:
    async with Opened(tmp_path).open(settings) as backend:
        vault.tokens.clear()
        approved = [await approved_for(backend) for _ in range(8)]
        outcomes = await asyncio.gather(*map(backend.issue, approved))
    assert len(vault.issued) == len(outcomes) == 8
    assert vault.count("login") == 2


async def test_a_token_is_renewed_before_it_ends(tmp_path: Path) -> None:
    with running_vault(lease_seconds=3) as vault:
        async with Opened(tmp_path).open(settings_for(vault, tmp_path)) as backend:
            await asyncio.to_thread(wait_until, lambda: vault.count("renew-self") >= 2)
            assert isinstance(await backend.issue(await approved_for(backend)), Issued)
        assert vault.count("login") == 1


async def test_where_a_token_cannot_be_renewed_kipuka_logs_in_again(tmp_path: Path) -> None:
    with running_vault(lease_seconds=3, renewals=0) as vault:
        async with Opened(tmp_path).open(settings_for(vault, tmp_path)):
            await asyncio.to_thread(wait_until, lambda: vault.count("login") >= 2)


async def test_a_login_that_fails_later_is_not_the_clients_fault(
    vault: Vault, settings: dict[str, Any], tmp_path: Path
) -> None:
    opened = Opened(tmp_path)
    async with opened.open(settings) as backend:
        vault.tokens.clear()
        (tmp_path / "secret-id").write_text("another")
        assert type(await refusal(backend)) is Unavailable
        (tmp_path / "secret-id").unlink()
        assert type(await refusal(backend)) is Unavailable
        (tmp_path / "secret-id").write_text(SECRET_ID)
        (tmp_path / "secret-id").chmod(0o600)
        assert isinstance(await backend.issue(await approved_for(backend)), Issued)
    assert "invalid role or secret ID" in opened.said
    assert "secret-id" in opened.said


async def test_secrets_are_in_no_error_event_log_or_repr(
    vault: Vault, settings: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    opened = Opened(tmp_path)
    async with opened.open(settings) as backend:
        tokens = list(vault.tokens)
        vault.misbehave = answers(400, json.dumps({"errors": ["no"]}))
        error = await refusal(backend)
        everything = " ".join([caplog.text, opened.said, str(error), repr(vars(backend)), repr(error.__cause__)])
    assert SECRET_ID not in everything
    assert not [token for token in tokens if token in everything]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"role_id": "wrong"}, "invalid role or secret ID"),
        ({"mount_point": "nowhere"}, "cannot be asked"),
        ({"secret_id_file": "nothing"}, "cannot be read"),
        ({"timeout": 10}, "shorter"),
    ],
)
async def test_what_cannot_work_is_said_at_the_start(
    settings: dict[str, Any], tmp_path: Path, change: dict[str, Any], problem: str
) -> None:
    with pytest.raises(ConfigurationError, match=problem) as raised:
        async with Opened(tmp_path).open(settings | change):
            pass
    assert SECRET_ID not in str(raised.value)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"url": "http://vault.example:8200"}, "allow_http"),
        ({"url": "https://u:p@vault.example"}, "nothing but scheme"),
        ({"trust_anchors": "root.pem"}, "url is http"),
        ({"auth": "token"}, 'role_id is for auth = "approle"'),
        ({"auth": "token", "role_id": None, "secret_id_file": None}, "needs token_file or token_env"),
        ({"token_env": "VAULT_TOKEN"}, 'is for auth = "token"'),
        ({"secret_id_env": "SECRET"}, "needs secret_id_file or secret_id_env"),
        ({"role": "devices"}, "sets_key_usage"),
        ({"mount_point": "../sys"}, "mount_point"),
    ],
)
def test_settings_that_could_never_work_are_refused(
    settings: dict[str, Any], tmp_path: Path, change: dict[str, Any], problem: str
) -> None:
    with pytest.raises(ValueError, match=problem):
        Opened(tmp_path).open(settings | change)


# -- away, and misbehaving ---------------------------------------------------------------------------------------------
async def test_without_vault_nothing_is_issued(tmp_path: Path) -> None:
    with running_vault() as vault:
        opening = Opened(tmp_path).open(settings_for(vault, tmp_path))
        backend = await opening.__aenter__()
    try:
        assert type(await refusal(backend)) is Unavailable
        with pytest.raises(Unavailable):
            await backend.ping()
    finally:
        await opening.__aexit__(None, None, None)


async def test_a_sealed_vault_issues_nothing(vault: Vault, settings: dict[str, Any], tmp_path: Path) -> None:
    async with Opened(tmp_path).open(settings) as backend:
        vault.sealed = True
        assert type(await refusal(backend)) is Unavailable
        with pytest.raises(Unavailable, match="sealed"):
            await backend.ping()
        vault.sealed = False
        await backend.ping()


def answers(status: int, body: str, content_type: str = "application/json") -> Callable[[Handler, str], bool]:
    def answer(handler: Handler, _path: str) -> bool:
        handler.answer(status, body, content_type)
        return True

    return answer


def hangs_up(handler: Handler, _path: str) -> bool:
    handler.close_connection = True
    return True


def says_nothing(handler: Handler, _path: str) -> bool:
    handler.rfile.read(1)  # until the other side gives up
    handler.close_connection = True
    return True


def stops_in_the_middle(handler: Handler, _path: str) -> bool:
    handler.wfile.write(b'HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{"data"')
    return hangs_up(handler, _path)


def never_ends(handler: Handler, _path: str) -> bool:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n")
    while True:  # until the other side gives up
        handler.wfile.write(b" " * 65536)


UNKNOWN = {
    "hangs up": hangs_up,
    "says nothing": says_nothing,
    "stops in the middle": stops_in_the_middle,
    "never ends": never_ends,
    "a web page": answers(200, "<html>", "text/html"),
    "no data": answers(200, "{}"),
    "no certificate": answers(200, json.dumps({"data": {"certificate": "x"}})),
    "a list": answers(200, "[]"),
    "an error inside": answers(500, json.dumps({"errors": ["1 error occurred"]})),
    "a proxy without it": answers(502, "bad gateway", "text/html"),
    "a proxy that did not wait": answers(504, "", "text/html"),
    "a proxy that is busy": answers(503, "", "text/html"),
}
NOT_ISSUED = {
    "sealed": answers(503, json.dumps({"errors": ["Vault is sealed"]})),
    "no such route": answers(404, json.dumps({"errors": []})),
    "too many requests": answers(429, json.dumps({"errors": ["request path rate limit quota exceeded"]})),
    "forbidden for every token": answers(403, json.dumps({"errors": ["permission denied"]})),
    "elsewhere": answers(307, ""),
}


@pytest.mark.parametrize("behaviour", [*UNKNOWN, *NOT_ISSUED])
async def test_what_is_not_a_clear_refusal_may_have_been_issued(
    vault: Vault, settings: dict[str, Any], tmp_path: Path, behaviour: str
) -> None:
    act = (UNKNOWN | NOT_ISSUED)[behaviour]
    async with Opened(tmp_path).open(settings | {"timeout": 1}) as backend:
        vault.misbehave = lambda handler, path: "sign" in path and act(handler, path)
        error = await refusal(backend)
    assert type(error) is (OutcomeUnknown if behaviour in UNKNOWN else Unavailable)
    expected = 2 if behaviour.startswith("forbidden") else 1
    assert vault.count("sign") == expected, "nothing is sent twice, but what the token was refused"

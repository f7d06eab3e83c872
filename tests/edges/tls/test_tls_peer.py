from __future__ import annotations

import asyncio
import json
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from ssl import SSLObject
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import ExtendedKeyUsageOID

from kipuka_core.edges.tls import peer as peer_module
from kipuka_core.edges.tls.reverify import ChainVerifier, NoLongerTrusted
from kipuka_core.errors import CsrRefused
from kipuka_core.testing.pki import make_root

BOTH = pytest.mark.parametrize("version", ["1.2", "1.3"])


@BOTH
def test_the_application_sees_the_verified_chain_and_the_standard_extension(
    run: Any, site: Any, kit: Any, version: str
) -> None:
    device = site.devices.leaf("device-1")

    async def scenario() -> Any:
        async with kit.serving(site.server_tls()) as served:
            return (await kit.fetch(served.port, site.client_context(device, version))).json

    seen = run(scenario())
    assert seen["chain"] == ["CN=device-1", "CN=Device CA", "CN=Test Root CA"]
    assert seen["tls_version"] == f"TLSv{version}"
    assert seen["source_address"] == "127.0.0.1"
    tls = seen["tls"]
    assert tls["client_cert_name"] == "CN=device-1"
    assert tls["client_cert_error"] is None
    assert [pem.splitlines()[0] for pem in tls["client_cert_chain"]] == ["-----BEGIN CERTIFICATE-----"] * 3
    assert tls["tls_version"] == {"1.2": 0x0303, "1.3": 0x0304}[version]
    assert tls["cipher_suite"] == {"1.2": 0xC02C, "1.3": 0x1302}[version]


def test_an_issuing_ca_alone_is_an_anchor_and_ends_the_chain(run: Any, site: Any, kit: Any) -> None:
    settings = site.server_tls(anchors=(site.devices.certificate,))

    async def scenario() -> Any:
        async with kit.serving(settings) as served:
            return (await kit.fetch(served.port, site.client_context(site.devices.leaf("device-2")))).json

    assert run(scenario())["chain"] == ["CN=device-2", "CN=Device CA"]


@BOTH
def test_a_client_without_certificate_has_an_empty_chain_in_optional_mode(
    run: Any, site: Any, kit: Any, version: str
) -> None:
    async def scenario() -> Any:
        async with kit.serving(site.server_tls()) as served:
            first = await kit.fetch(served.port, site.client_context(None, version))
            return first.json

    seen = run(scenario())
    assert seen["chain"] == []
    assert seen["tls"]["client_cert_chain"] == []
    assert seen["tls"]["client_cert_error"] is None


def test_mode_none_does_not_ask_for_the_certificate(run: Any, site: Any, kit: Any) -> None:
    async def scenario() -> Any:
        async with kit.serving(site.server_tls(client_auth="none", anchors=())) as served:
            return (await kit.fetch(served.port, site.client_context(site.devices.leaf("device-3")))).json

    assert run(scenario())["chain"] == []


@BOTH
def test_a_resumed_session_keeps_the_identity_and_gets_its_chain_again(
    run: Any, site: Any, kit: Any, version: str
) -> None:
    context = site.client_context(site.devices.leaf("device-4"), version)

    async def scenario() -> Any:
        async with kit.serving(site.server_tls()) as served:
            first = await kit.fetch(served.port, context)
            return first, await kit.fetch(served.port, context, first.session)

    first, second = run(scenario())
    assert (first.session_reused, second.session_reused) == (False, True)
    assert second.json["chain"] == first.json["chain"] == ["CN=device-4", "CN=Device CA", "CN=Test Root CA"]


@BOTH
def test_a_session_resumed_after_its_anchor_was_dropped_has_no_client_certificate(
    run: Any, site: Any, kit: Any, version: str
) -> None:
    context = site.client_context(site.devices.leaf("device-5"), version)
    other = make_root("Another CA")

    async def scenario() -> Any:
        async with kit.serving(site.server_tls()) as served:
            first = await kit.fetch(served.port, context)
            served.reader.trust([other.certificate])
            return first, await kit.fetch(served.port, context, first.session)

    first, second = run(scenario())
    assert first.json["client"] == "CN=device-5"
    assert second.session_reused
    assert second.json["chain"] == []
    assert second.json["tls"]["client_cert_name"] is None
    assert "resumed session is not accepted" in second.json["tls"]["client_cert_error"]


@BOTH
def test_a_session_resumed_after_its_certificate_expired_has_no_client_certificate(
    run: Any, site: Any, kit: Any, version: str
) -> None:
    context = site.client_context(site.devices.leaf("device-6", days=10), version)
    now = [datetime.now(UTC)]

    async def scenario() -> Any:
        async with kit.serving(site.server_tls(), clock=lambda: now[0]) as served:
            first = await kit.fetch(served.port, context)
            now[0] += timedelta(days=11)
            return first, await kit.fetch(served.port, context, first.session)

    first, second = run(scenario())
    assert first.json["client"] == "CN=device-6"
    assert second.session_reused
    assert second.json["client"] is None
    assert "expired" in second.json["tls"]["client_cert_error"]


@BOTH
def test_in_required_mode_such_a_session_does_not_even_become_a_connection(
    run: Any, site: Any, kit: Any, version: str
) -> None:
    context = site.client_context(site.devices.leaf("device-7"), version)

    async def scenario() -> Any:
        async with kit.serving(site.server_tls(client_auth="required")) as served:
            first = await kit.fetch(served.port, context)
            served.reader.trust([make_root("Another CA").certificate])
            with pytest.raises((OSError, IndexError)):
                await kit.fetch(served.port, context, first.session)
            return first, await served.failure()

    first, failure = run(scenario())
    assert first.json["client"] == "CN=device-7"
    assert failure.cause == "unknown_ca"
    assert "a client certificate is required" in failure.detail


def test_an_assignment_replaces_the_context_for_the_next_connection(
    run: Any, site: Any, kit: Any, tmp_path: Path
) -> None:
    root = make_root("New server root")
    renewed = kit.Site(tmp_path, root)

    async def scenario() -> Any:
        async with kit.serving(site.server_tls()) as served:
            await kit.fetch(served.port, site.client_context())
            served.contexts[0] = kit.build_context(renewed.server_tls())
            with pytest.raises(kit.ssl.SSLCertVerificationError):
                await kit.fetch(served.port, site.client_context())
            return await kit.fetch(served.port, renewed.client_context())

    assert run(scenario()).status == 200


def test_two_hundred_concurrent_clients_are_never_mixed_up(run: Any, site: Any, kit: Any) -> None:
    devices = [site.devices.leaf(f"crowd-{number}") for number in range(200)]

    async def three_requests(port: int, number: int) -> None:
        version = "1.3" if number % 2 else "1.2"
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=site.client_context(devices[number], version), server_hostname="localhost"
        )
        for turn in range(3):
            writer.write(b"GET /%d HTTP/1.1\r\nHost: localhost\r\n\r\n" % turn)
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            seen = json.loads(await reader.readexactly(length))
            assert seen["client"] == f"CN=crowd-{number}"
            assert seen["path"] == f"/{turn}"
        writer.close()

    async def scenario() -> Any:
        async with kit.serving(site.server_tls()) as served:
            await asyncio.gather(*(three_requests(served.port, number) for number in range(200)))
            return served.listener.counters.accepted

    assert run(scenario()) == 200


def test_tls_unique_is_the_binding_on_tls12_and_the_client_computes_the_same(run: Any, site: Any, kit: Any) -> None:
    context = site.client_context(None, "1.2")

    async def scenario() -> Any:
        async with kit.serving(site.server_tls()) as served:
            first = await kit.fetch(served.port, context)
            return first, await kit.fetch(served.port, context, first.session)

    for reply in run(scenario()):
        assert reply.json["binding"] == reply.tls_unique.hex()


def test_on_tls13_the_binding_is_the_exporter_and_not_tls_unique(run: Any, site: Any, kit: Any) -> None:
    async def scenario() -> Any:
        async with kit.serving(site.server_tls()) as served:
            return await kit.fetch(served.port, site.client_context())

    reply = run(scenario())
    assert len(bytes.fromhex(reply.json["binding"])) == 32
    assert reply.json["binding"] != reply.tls_unique.hex()


def test_a_resumed_tls12_session_without_extended_master_secret_has_no_binding(
    run: Any, site: Any, kit: Any, tmp_path: Path
) -> None:
    """OpenSSL's client can be told not to offer the extension (RFC 7627), as old devices do not."""
    config = tmp_path / "no_ems.cnf"
    config.write_text(
        "openssl_conf = top\n[top]\nssl_conf = ssl\n[ssl]\nsystem_default = plain\n"
        "[plain]\nOptions = -ExtendedMasterSecret\n"
    )

    def ask(port: int, *session: str) -> str:
        done = subprocess.run(
            ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-tls1_2", "-ign_eof", *session],
            input="GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
            env={"OPENSSL_CONF": str(config)},
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
        return str(done.stdout)

    async def scenario() -> Any:
        stored = str(tmp_path / "session.pem")
        async with kit.serving(site.server_tls()) as served:
            fresh = await asyncio.to_thread(ask, served.port, "-sess_out", stored)
            return fresh, await asyncio.to_thread(ask, served.port, "-sess_in", stored)

    fresh, resumed = run(scenario())
    assert "Extended master secret: no" in fresh
    assert '"binding": "channel_binding_unavailable"' not in fresh
    assert "Reused, TLSv1.2" in resumed
    assert '"binding": "channel_binding_unavailable"' in resumed


def test_a_resumed_tls12_session_has_no_binding_where_openssl_cannot_be_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    class Resumed(SSLObject):
        session_reused = True

        def version(self) -> Any:
            return "TLSv1.2"

    monkeypatch.setattr(peer_module, "exporter_problem", lambda: "no ctypes here")
    with pytest.raises(CsrRefused, match="not safe on this resumed session"):
        peer_module.channel_binding(Resumed.__new__(Resumed))


def test_the_public_chain_of_newer_interpreters_is_used_where_there_is_one() -> None:
    class Newer(SSLObject):
        def get_verified_chain(self) -> Any:
            return [b"leaf", b"anchor"]

    assert peer_module._verified_chain(Newer.__new__(Newer)) == (b"leaf", b"anchor")


def der(certificate: Any) -> Any:
    return certificate.public_bytes(serialization.Encoding.DER)


def test_verifying_again_wants_the_purpose_of_a_client(site: Any) -> None:
    verifier = ChainVerifier([site.root.certificate])
    now = datetime.now(UTC)
    good = site.root.leaf("good").certificate
    assert verifier.verify(der(good), now) == (der(good), der(site.root.certificate))
    with pytest.raises(NoLongerTrusted, match="not for client authentication"):
        verifier.verify(der(site.root.leaf("server", eku=(ExtendedKeyUsageOID.SERVER_AUTH,)).certificate), now)
    with pytest.raises(NoLongerTrusted, match="allows no signature"):
        verifier.verify(der(site.devices.certificate), now)


def test_verifying_again_goes_by_the_time_of_each_call(site: Any) -> None:
    verifier = ChainVerifier([site.root.certificate])
    now = datetime.now(UTC)
    ending = site.root.leaf("ending", days=10).certificate
    coming = site.root.leaf("coming", not_before=now + timedelta(days=10)).certificate
    verifier.verify(der(ending), now)
    with pytest.raises(NoLongerTrusted, match="not yet valid"):
        verifier.verify(der(coming), now)

    later = now + timedelta(days=11)
    verifier.verify(der(coming), later)
    with pytest.raises(NoLongerTrusted, match="expired"):
        verifier.verify(der(ending), later)


def test_an_intermediate_counts_only_after_a_handshake_verified_it(site: Any) -> None:
    verifier = ChainVerifier([site.root.certificate])
    leaf = site.devices.leaf("device").certificate
    chain = tuple(der(certificate) for certificate in (leaf, *site.devices.chain))
    with pytest.raises(NoLongerTrusted):
        verifier.verify(chain[0], datetime.now(UTC))
    verifier.learn(chain)
    assert verifier.verify(chain[0], datetime.now(UTC)) == chain


def test_the_memory_of_intermediates_is_bounded_and_forgets_the_oldest(
    site: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kipuka_core.edges.tls.reverify._MAX_INTERMEDIATES", 2)
    verifier = ChainVerifier([site.root.certificate])
    subordinates = [site.root.subordinate(f"CA {number}") for number in range(3)]
    chains = [
        tuple(der(certificate) for certificate in (ca.leaf("device").certificate, *ca.chain)) for ca in subordinates
    ]
    for chain in chains:
        verifier.learn(chain)
    assert verifier.verify(chains[2][0], datetime.now(UTC)) == chains[2]
    with pytest.raises(NoLongerTrusted):
        verifier.verify(chains[0][0], datetime.now(UTC))

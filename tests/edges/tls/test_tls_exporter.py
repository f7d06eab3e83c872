from __future__ import annotations

import ssl
import subprocess
import sys
from typing import Any, cast

import pytest

from kipuka_core.edges.tls import exporter
from kipuka_core.edges.tls.exporter import ExporterUnavailable, export_channel_binding, exporter_problem, self_test
from kipuka_core.edges.tls.peer import channel_binding
from kipuka_core.errors import CsrRefused


@pytest.fixture
def forget_self_test() -> Any:
    exporter_problem.cache_clear()
    yield
    exporter_problem.cache_clear()


def test_the_self_test_passes_on_this_interpreter() -> None:
    self_test()
    assert exporter_problem() is None


def test_an_object_that_is_not_cpythons_is_refused_before_any_memory_is_read() -> None:
    class Foreign:
        _sslobj = object()

    for impostor in (Foreign(), object(), None):
        with pytest.raises(ExporterUnavailable, match="not CPython's SSL object"):
            export_channel_binding(cast("ssl.SSLObject", impostor))


def test_another_layout_is_seen_by_its_neighbour_and_not_dereferenced(monkeypatch: pytest.MonkeyPatch) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    connection = context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname="localhost")
    # Seen from here, an interpreter with another word beside the SSL pointer looks like this.
    monkeypatch.setattr(ssl.SSLObject, "context", property(lambda _: object()))
    with pytest.raises(ExporterUnavailable, match="lays out its SSL object"):
        export_channel_binding(connection)


@pytest.mark.usefixtures("forget_self_test")
def test_ends_that_disagree_make_the_binding_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    values = iter([bytes([number]) * 32 for number in range(4)])
    monkeypatch.setattr(exporter, "export_channel_binding", lambda _: next(values))
    assert exporter_problem() == "the two ends of a connection export different values"


@pytest.mark.usefixtures("forget_self_test")
def test_connections_that_agree_with_each_other_make_the_binding_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporter, "export_channel_binding", lambda _: b"\x01" * 32)
    assert exporter_problem() == "two connections export the same value"


@pytest.mark.usefixtures("forget_self_test")
def test_without_the_exporter_a_tls13_connection_has_no_binding_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    class Tls13:
        session_reused = False

        def version(self) -> Any:
            return "TLSv1.3"

    monkeypatch.setattr(exporter, "_load_throwaway_identity", lambda _: exec("raise OSError('no memory file')"))
    with pytest.raises(CsrRefused, match=r"connect with TLS 1\.2") as caught:
        channel_binding(cast("ssl.SSLObject", Tls13()))
    assert caught.value.code == "channel_binding_unavailable"
    assert exporter_problem() == "the self-test could not run: no memory file"


def test_openssl_s_client_exports_the_same_value(run: Any, site: Any, kit: Any) -> None:
    """An independent peer: OpenSSL's command line, with the label of RFC 9266 and no context."""

    def ask(port: int) -> tuple[str, str]:
        arguments = ["-keymatexport", "EXPORTER-Channel-Binding", "-keymatexportlen", "32", "-tls1_3", "-ign_eof"]
        done = subprocess.run(
            ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", *arguments],
            input="GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
        exported = done.stdout.split("Keying material: ")[1].split()[0].lower()
        return exported, done.stdout.split('"binding": "')[1].split('"')[0]

    async def scenario() -> Any:
        async with kit.serving(site.server_tls()) as served:
            return await kit.asyncio.to_thread(ask, served.port)

    theirs, ours = run(scenario())
    assert theirs == ours
    assert len(ours) == 64


def test_importing_the_room_runs_no_self_test() -> None:
    code = "import kipuka_core.edges.tls.peer as p; assert p.exporter_problem.cache_info().currsize == 0"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=30).returncode == 0

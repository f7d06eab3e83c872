"""What a process looks after while it serves: providers of every mood, changing over, and what is said to whom."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from structlog.testing import capture_logs
from structlog.typing import EventDict

from kipuka_core.assemble import assemble
from kipuka_core.config import load
from kipuka_core.listeners import est_material
from kipuka_core.live_tls import LiveTls
from kipuka_core.testing.pki import Leaf, make_root
from kipuka_core.testing.samples import write_private
from kipuka_core.testing.server import make_deployment
from kipuka_core.upkeep import Upkeep, UpkeepTimes
from tests.startup.distributions import Distribution, importable

CA = make_root().subordinate()
MOODY = Distribution(
    "kipuka-moody",
    "moody",
    "kipuka_moody",
    '''
    """TLS material in the mood that a file says: fine, news, raise, refuse, hang, wrong."""
    import asyncio
    from contextlib import nullcontext
    from pathlib import Path
    from kipuka_core import ConfigurationError, Provider, ServerIdentity, Settings, TlsMaterial, hookimpl

    class Moody(TlsMaterial):
        def __init__(self, settings, services):
            self.directory = services.base_dir

        async def server_identity(self):
            return ServerIdentity(str(self.directory / "moody.pem"), str(self.directory / "moody.pem"))

        async def upkeep(self):
            mood = (self.directory / "mood").read_text()
            if mood == "news":
                (self.directory / "mood").write_text("fine")
            elif mood == "raise":
                raise RuntimeError("a secret")
            elif mood == "refuse":
                raise ConfigurationError("/mnt/share", "is not mounted")
            elif mood == "hang":
                await asyncio.Event().wait()
            return "yes" if mood == "wrong" else mood == "news"

    @hookimpl
    def kipuka_tls_material():
        return [Provider("moody", Settings, lambda *opened: nullcontext(Moody(*opened)))]
    ''',
)
TOML = """
[server]
state_dir = "state"
[tls]
material = "moody"
[tls.client_auth]
trust_anchors = "state/ca/root.pem"
[plugins]
enable = ["moody"]
timeout = "1s"
"""


@dataclass
class Turns:
    """What a test turns: the time of certificates, the time of the process, and whether it is reloading."""

    now: datetime = field(default_factory=lambda: datetime.now(UTC))
    monotonic_seconds: float = 0.0
    is_reloading: bool = False


@dataclass(frozen=True)
class Site:
    """A process's upkeep without the process."""

    directory: Path
    turns: Turns
    live: LiveTls
    upkeep: Upkeep

    def days_pass(self, days: float = 1) -> None:
        """Of the process: the time until it looks again."""
        self.turns.monotonic_seconds += days * 86400

    def put(self, leaf: Leaf) -> None:
        put(self.directory, leaf)

    def feels(self, mood: str) -> None:
        (self.directory / "mood").write_text(mood)

    @property
    def served(self) -> x509.Certificate:
        return self.live.material.chain.certificates[0]

    async def poll(self) -> list[EventDict]:
        """One round; what was written to the log."""
        with capture_logs() as logs:
            await self.upkeep.poll()
        return logs

    def inspect(self) -> list[str]:
        """The warnings that were written to the log."""
        with capture_logs() as logs:
            self.upkeep.inspect()
        return [line["warning"] for line in logs]


def put(directory: Path, leaf: Leaf) -> None:
    chain = b"".join(each.public_bytes(Encoding.PEM) for each in (leaf.certificate, *leaf.chain[:-1]))
    write_private(directory / "moody.pem", leaf.key_pem + chain)


@asynccontextmanager
async def looked_after(directory: Path, *, says_warnings: bool = True) -> AsyncIterator[Site]:
    deployment = make_deployment(directory)
    deployment.toml.write_text(TOML, encoding="utf-8")
    MOODY.install(directory / "site")
    (directory / "mood").write_text("fine")
    put(directory, CA.server())
    with importable(directory / "site"):
        config = load(deployment.toml, {})
        async with assemble(config) as assembly:
            turns = Turns()
            live = await LiveTls.open(assembly, est_material, clock=lambda: turns.now)
            upkeep = Upkeep(
                assembly,
                live,
                (config.tls_material,),
                is_reloading=lambda: turns.is_reloading,
                says_warnings=says_warnings,
                clock=lambda: turns.monotonic_seconds,
            )
            yield Site(directory, turns, live, upkeep)


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with looked_after(tmp_path) as opened:
        yield opened


async def test_what_a_provider_has_new_is_served_and_only_then(site: Site) -> None:
    before, renewed = site.served, CA.server()
    context = site.live.context
    site.put(renewed)
    assert await site.poll() == []
    assert site.served == before
    site.feels("news")
    (line,) = await site.poll()
    assert line["event"] == "renewed certificate served"
    assert site.served == renewed.certificate
    assert site.live.context is not context
    assert await site.poll() == []


@pytest.mark.parametrize(
    ("mood", "problem"),
    [
        ("raise", "kipuka_moody.Moody.upkeep raised RuntimeError in line 20 of kipuka_moody"),
        ("refuse", "/mnt/share: is not mounted"),
        ("hang", "kipuka_moody.Moody.upkeep gave no answer within 1 s"),
        ("wrong", "kipuka_moody.Moody.upkeep answered with str; it has to answer with bool"),
    ],
)
async def test_a_provider_in_trouble_stops_nothing_and_is_a_warning_until_it_is_well(
    site: Site, mood: str, problem: str
) -> None:
    before = site.served
    site.feels(mood)
    (line,) = await site.poll()
    assert (line["log_level"], line["part"], line["problem"]) == ("error", "tls.moody: TLS material 'moody'", problem)
    assert await site.poll() == [], "said once"
    warning = f"tls.moody: TLS material 'moody': {problem}"
    assert warning in site.live.current_warnings()
    assert site.served == before
    site.put(renewed := CA.server())
    site.feels("news")
    assert [line["event"] for line in await site.poll()] == ["renewed certificate served"]
    assert site.served == renewed.certificate
    assert warning not in site.live.current_warnings()
    site.feels(mood)
    assert len(await site.poll()) == 1, "and again when it comes again"


async def test_news_that_cannot_be_served_leave_the_old_one_and_are_tried_again(site: Site) -> None:
    before = site.served
    write_private(site.directory / "moody.pem", b"-----BEGIN CERTIFICATE-----\n")
    site.feels("news")
    (line,) = await site.poll()
    assert "holds no PEM certificate" in line["problem"]
    assert site.served == before
    assert any("the old one stays" in warning for warning in site.live.current_warnings())
    site.put(renewed := CA.server())
    assert [line["event"] for line in await site.poll()] == ["renewed certificate served"]
    assert site.served == renewed.certificate
    assert not any("the old one stays" in warning for warning in site.live.current_warnings())


async def test_news_wait_for_a_reload_under_way(site: Site) -> None:
    before = site.served
    site.turns.is_reloading = True
    site.put(renewed := CA.server())
    site.feels("news")
    await site.poll()
    assert site.served == before
    site.turns.is_reloading = False
    await site.poll()
    assert site.served == renewed.certificate


async def test_a_renewal_changes_the_certificate_and_not_the_anchors(site: Site) -> None:
    anchors = site.live.anchors()
    root = site.directory / "state" / "ca" / "root.pem"
    root.write_bytes(root.read_bytes() + make_root("Another Root").pem)
    site.put(CA.server())
    site.feels("news")
    await site.poll()
    assert site.live.anchors() == anchors
    site.live.commit(await site.live.prepare())
    assert len(site.live.anchors()) == len(anchors) + 1


async def test_an_end_within_thirty_days_is_said_once_a_day(site: Site) -> None:
    end = site.served.not_valid_after_utc
    site.days_pass()
    assert site.inspect() == []
    site.turns.now = end - timedelta(days=30) + timedelta(minutes=1)
    site.days_pass(0.5)
    assert site.inspect() == [], "not a day yet"
    for _ in range(3):
        site.days_pass()
        assert site.inspect() == [f"the server certificate ends on {end:%Y-%m-%d}: renew it now"]
        assert site.inspect() == []
    site.put(CA.leaf("localhost", ("dns:localhost",), eku=ekus(), days=365))
    site.feels("news")
    await site.poll()
    site.days_pass()
    assert site.inspect() == []


async def test_a_certificate_that_has_ended_is_said_too(site: Site) -> None:
    site.turns.now = site.served.not_valid_after_utc + timedelta(days=1)
    site.days_pass()
    (warning,) = site.inspect()
    assert "the server certificate expired on" in warning


async def test_one_process_says_it_for_all(tmp_path: Path) -> None:
    async with looked_after(tmp_path, says_warnings=False) as site:
        site.turns.now = site.served.not_valid_after_utc - timedelta(days=1)
        site.days_pass()
        assert site.inspect() == []


async def test_what_fails_unexpectedly_ends_no_upkeep(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    rounds = asyncio.Queue[None]()

    async def poll() -> None:
        rounds.put_nowait(None)
        raise OSError("the disk is gone")

    monkeypatch.setattr(site.upkeep, "poll", poll)
    monkeypatch.setattr(site.upkeep, "_times", UpkeepTimes(poll_seconds=0.001))
    with capture_logs() as logs:
        running = asyncio.create_task(site.upkeep.run())
        for _ in range(3):
            await rounds.get()
        running.cancel()
        await asyncio.wait([running])
    assert {line["event"] for line in logs} == {"upkeep failed; it goes on"}


def ekus() -> tuple[x509.ObjectIdentifier, ...]:
    return tuple(CA.server().certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)

"""TLS material ``self``: when it has a certificate issued, when not, and what it does when that fails."""

from __future__ import annotations

import asyncio
import re
import stat
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from pydantic import ValidationError

from kipuka_builtin import tls_self
from kipuka_core import Approved, ConfigurationError, Issued, KeyType, Services, TlsMaterial, Unavailable, Wait
from kipuka_core.model.fingerprints import serial_hex
from kipuka_core.model.key_type import key_type_of
from kipuka_core.model.names import san_entry, san_of
from kipuka_core.testing import pki
from kipuka_core.testing.contracts.settings import check_settings
from kipuka_core.testing.contracts.tls_material import TlsMaterialContract, look_after_until_renewed
from tests.tls_material.own_ca_kit import NAMES, AwayCa, OwnCa, chain_of, files_in, own_ca, serving


@pytest.fixture
async def ca(tmp_path: Path) -> AsyncIterator[OwnCa]:
    async with own_ca(tmp_path) as opened:
        yield opened


def current(ca: OwnCa) -> Path:
    return (ca.directory / "tls-self" / "current").resolve()


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


class TestContract(TlsMaterialContract):
    provider = tls_self.PROVIDER

    @pytest.fixture
    def settings(self) -> Mapping[str, object]:
        return {"names": list(NAMES)}

    @pytest.fixture
    def services(self, ca: OwnCa) -> Services:
        return ca.services()

    @pytest.fixture
    def renew(self, ca: OwnCa) -> Callable[[], None]:
        return lambda: ca.later(61)

    @pytest.fixture
    def make_due(self, ca: OwnCa) -> Callable[[], None]:
        return lambda: ca.later(61)

    @pytest.fixture
    def break_it(self, ca: OwnCa) -> Callable[[], None]:
        def break_it() -> None:
            chain = ca.cas["main"]._chain  # type: ignore[attr-defined]  # of the local CA
            ca.cas["main"] = AwayCa(chain)
            (ca.directory / "tls-self" / "current").unlink()

        return break_it


def test_its_settings_are_described() -> None:
    check_settings(tls_self.TlsSelfSettings, {"names": ["est.example.com"]})


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"names": []}, "names"),
        ({"names": ["a b"]}, "'a b' is neither a DNS name nor an IP address"),
        ({"names": ["192.0.2.300"]}, "neither"),
        ({"names": ["https://est.example.com"]}, "neither"),
        ({"key_type": "ed25519"}, "one of rsa2048, rsa3072, rsa4096, ecdsa256"),
        ({"key_type": "rsa1024"}, "unknown key type"),
        ({"validity_days": 0}, "validity_days"),
    ],
)
def test_settings_that_make_no_server_certificate_are_refused(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(says)):
        tls_self.TlsSelfSettings.model_validate({"names": ["a.example"]} | settings)


async def test_the_first_start_has_one_issued_and_the_next_serves_it(ca: OwnCa) -> None:
    async with ca.material() as port:
        identity = await port.server_identity()
        leaf, *above = chain_of(identity)
        assert sorted(map(san_entry, san_of(leaf) or ())) == ["dns:est.example.com", "ip:192.0.2.7"]
        assert len(above) == 1
    async with ca.material() as port:
        assert await port.server_identity() == identity
    assert [record.serial_hex for record in await ca.records()] == [serial_hex(leaf)]
    assert ca.warnings == []


async def test_key_and_directory_are_for_their_owner_alone(ca: OwnCa) -> None:
    directory = ca.directory / "tls-self"
    directory.mkdir(mode=0o755)
    async with ca.material() as port:
        await port.server_identity()
    assert mode_of(directory) == 0o700
    assert mode_of(current(ca)) == 0o600


async def test_a_directory_that_is_a_symbolic_link_is_refused_and_its_target_left_alone(ca: OwnCa) -> None:
    target = ca.directory / "precious"
    target.mkdir(mode=0o755)
    (target / "file").write_text("precious")
    (ca.directory / "tls-self").symlink_to(target)
    async with ca.material() as port:
        with pytest.raises(ConfigurationError, match="symbolic link"):
            await port.server_identity()
    assert [file.name for file in target.iterdir()] == ["file"]
    assert mode_of(target) == 0o755


async def test_a_key_that_others_can_read_is_warned_of(ca: OwnCa) -> None:
    async with ca.material() as port:
        await port.server_identity()
        current(ca).chmod(0o644)
        await port.server_identity()
    assert ["mode 0644" in warning for warning in ca.warnings] == [True]


async def test_many_who_start_at_once_have_one_certificate(ca: OwnCa) -> None:
    async def start() -> x509.Certificate:
        async with ca.material() as port:
            return await serving(port)

    leaves = await asyncio.gather(*(start() for _ in range(6)))
    assert len(set(leaves)) == 1
    assert len(await ca.records()) == 1


@pytest.mark.parametrize(
    ("validity_days", "not_yet", "due"), [(90, 59.9, 60.1), (60, 29.9, 30.1), (20, 9.9, 10.1), (1, 0.4, 0.6)]
)
async def test_it_is_renewed_thirty_days_before_the_end_or_at_half_of_its_life(
    ca: OwnCa, validity_days: int, not_yet: float, due: float
) -> None:
    async with ca.material(validity_days=validity_days) as port:
        first = await serving(port)
        ca.later(not_yet)
        assert not await port.upkeep()
        assert await serving(port) == first
        ca.later(due - not_yet)
        await look_after_until_renewed(port)
        second = await serving(port)
    assert second.not_valid_after_utc > first.not_valid_after_utc
    assert second.public_key() != first.public_key()


async def test_the_key_before_the_last_is_not_kept(ca: OwnCa) -> None:
    async with ca.material() as port:
        for _ in range(4):
            await port.server_identity()
            ca.later(61)
            await look_after_until_renewed(port)
    kept = {f"server-{record.serial_hex}.pem" for record in (await ca.records())[-2:]}
    assert files_in(ca.directory / "tls-self") == {"lock", "current"} | kept


async def test_at_the_end_of_the_ca_it_is_not_renewed_again_and_again(tmp_path: Path) -> None:
    async with own_ca(tmp_path, pki.make_root().subordinate(days=100)) as ca, ca.material() as port:
        ca.later(61)
        await look_after_until_renewed(port)
        last = await serving(port)
        assert last.not_valid_after_utc == (await ca.cas["main"].chain()).issuing.not_valid_after_utc
        for days in (20, 10, 5, 3):
            ca.later(days)
            assert not await port.upkeep()
        assert await serving(port) == last


async def damage(ca: OwnCa, leaf: x509.Certificate) -> None:
    file = ca.directory / "tls-self" / f"server-{serial_hex(leaf)}.pem"
    file.write_bytes(file.read_bytes()[:-200])


async def remove(ca: OwnCa, leaf: x509.Certificate) -> None:
    (ca.directory / "tls-self" / f"server-{serial_hex(leaf)}.pem").unlink()


async def mix_up(ca: OwnCa, leaf: x509.Certificate) -> None:
    file = ca.directory / "tls-self" / f"server-{serial_hex(leaf)}.pem"
    file.write_bytes(pki.key_pem(pki.make_key()) + pki.Leaf(leaf, pki.make_key()).certificate_pem)


@pytest.mark.parametrize("harm", [OwnCa.revoke, damage, remove, mix_up])
async def test_a_certificate_that_is_spoilt_is_replaced(
    ca: OwnCa, harm: Callable[[OwnCa, x509.Certificate], Any]
) -> None:
    async with ca.material() as port:
        first = await serving(port)
        await harm(ca, first)
        await look_after_until_renewed(port)
        second = await serving(port)
        assert second != first
        await harm(ca, second)
        assert await serving(port) != second, "also when a reload asks"
    assert len(await ca.records()) == 3


async def test_one_that_the_database_does_not_know_is_replaced(ca: OwnCa, tmp_path: Path) -> None:
    async with ca.material() as port:
        first = await serving(port)
    other = tmp_path / "other"
    other.mkdir()
    (tmp_path / "tls-self").rename(other / "tls-self")
    (other / "ca").symlink_to(tmp_path)
    async with own_ca(other) as emptied:
        emptied.cas = ca.cas
        async with emptied.material() as port:
            assert await serving(port) != first


@pytest.mark.parametrize(
    "changed",
    [{"names": ["est.example.com"]}, {"key_type": "rsa2048"}, {"ca": "second"}, {"names": [*NAMES, "b.example"]}],
)
async def test_a_start_with_other_settings_has_another(ca: OwnCa, tmp_path: Path, changed: dict[str, Any]) -> None:
    second = tmp_path / "second"
    second.mkdir()
    async with own_ca(second) as other, ca.material() as port:
        ca.cas["second"] = other.cas["main"]
        first = await serving(port)
        async with ca.material(**changed) as later:
            leaf = await serving(later)
            assert leaf != first
            assert key_type_of(leaf.public_key()) is KeyType(changed.get("key_type", "ecdsa256"))
            assert not await later.upkeep()
        assert len(await ca.records()) == 2


async def test_an_intermediate_that_was_renewed_around_its_key_is_sent(tmp_path: Path) -> None:
    root = pki.make_root()
    old = root.subordinate()
    new = pki._sign(
        subject=old.certificate.subject,
        public_key=old.certificate.public_key(),
        issuer=root,
        days=900,
        extensions=pki._ca_extensions(0),
    )
    async with own_ca(tmp_path, old) as ca, ca.material() as port:
        assert chain_of(await port.server_identity())[1:] == (old.certificate,)
        (tmp_path / "renewed").mkdir()
        async with own_ca(tmp_path / "renewed", pki.Authority(new, old.key, old.above)) as renewed:
            ca.cas["main"] = renewed.cas["main"]
            await look_after_until_renewed(port)
            assert chain_of(await port.server_identity())[1:] == (new,)


async def test_a_ca_that_is_not_there_stops_the_start(ca: OwnCa) -> None:
    with pytest.raises(ConfigurationError, match=r"^nobody: there is no \[\[ca\]\] with this id; known: main$"):
        async with ca.material(ca="nobody"):
            pass


async def test_without_a_first_certificate_there_is_no_start(ca: OwnCa) -> None:
    await ca.take_ca_away()
    async with ca.material() as port:
        with pytest.raises(
            ConfigurationError, match=r"^tls\.self: the server certificate is not issued: .* out for lunch"
        ):
            await port.server_identity()


async def test_while_the_ca_is_away_the_old_one_serves_and_it_is_said(ca: OwnCa) -> None:
    async with ca.material() as port:
        first = await serving(port)
        back = await ca.take_ca_away()
        ca.later(61)
        for _ in range(3):
            with pytest.raises(Unavailable, match="not issued: the CA is out for lunch"):
                await port.upkeep()
        assert await serving(port) == first
        assert ["out for lunch" in warning for warning in ca.warnings] == [True]
        async with ca.material() as restarted:
            assert await serving(restarted) == first
        ca.cas["main"] = back
        ca.later(1)
        await look_after_until_renewed(port)
        assert await serving(port) != first
        assert len(ca.warnings) == 2


async def test_one_that_has_ended_does_not_serve(ca: OwnCa) -> None:
    async with ca.material() as port:
        await port.server_identity()
        await ca.take_ca_away()
        ca.later(91)
        with pytest.raises(ConfigurationError, match="out for lunch"):
            await port.server_identity()


class _Counting(AwayCa):
    asked = 0

    async def issue(self, approved: Approved) -> Issued | Wait:
        self.asked += 1
        return await super().issue(approved)


async def test_a_ca_that_is_away_is_asked_at_growing_intervals(ca: OwnCa) -> None:
    async with ca.material() as port:
        await port.server_identity()
        ca.cas["main"] = counting = _Counting(await ca.cas["main"].chain())
        ca.later(61)
        for _ in range(24 * 60):  # a day, every minute
            with pytest.raises(Unavailable):
                await port.upkeep()
            ca.now += timedelta(minutes=1)
    assert 24 <= counting.asked <= 32


async def test_a_ca_whose_certificates_are_over_at_once_is_a_problem_and_no_flood(ca: OwnCa) -> None:
    ca.cas["main"]._validity = timedelta(minutes=1)  # type: ignore[attr-defined]  # of which all have passed
    async with ca.material() as port:
        with pytest.raises(ConfigurationError, match=r"not issued: the new one is no better: it is not valid now"):
            await port.server_identity()
        assert await port.upkeep()  # there is another one, if no better
        for _ in range(5):
            with pytest.raises(Unavailable):
                await port.upkeep()
    assert len(await ca.records()) == 2


async def test_while_the_database_is_away_what_is_there_serves(tmp_path: Path) -> None:
    async with own_ca(tmp_path) as ca:
        async with ca.material() as port:
            first = await serving(port)
        port_of_closed = ca.material()
        port = await port_of_closed.__aenter__()
    assert await serving(port) == first
    await port_of_closed.__aexit__(None, None, None)


async def test_who_waits_for_the_lock_serves_what_the_other_made(ca: OwnCa) -> None:
    async with ca.material() as one, ca.material() as other:
        await one.server_identity()
        ca.later(61)
        assert sorted(await asyncio.gather(one.upkeep(), other.upkeep())) == [True, True]
        assert await serving(one) == await serving(other)
    assert len(await ca.records()) == 2


async def test_a_dry_run_changes_nothing_and_says_what_would_be(ca: OwnCa) -> None:
    before = files_in(ca.directory)
    async with ca.material(dry_run=True) as port:
        leaf = await serving(port)
        assert not await port.upkeep()
    assert sorted(map(san_entry, san_of(leaf) or ())) == ["dns:est.example.com", "ip:192.0.2.7"]
    assert files_in(ca.directory) == before
    assert await ca.records() == []
    (warning,) = ca.warnings
    assert (
        warning
        == "tls.self: the next start has a server certificate for est.example.com, 192.0.2.7 issued: there is none yet"
    )


async def test_a_dry_run_looks_at_the_certificate_that_is_there(ca: OwnCa) -> None:
    async with ca.material() as port:
        real = await serving(port)
    async with ca.material(dry_run=True) as port:
        assert await serving(port) == real
    assert ca.warnings == []
    async with ca.material(dry_run=True, names=["other.example"]) as port:
        assert await serving(port) != real
    assert "names has changed" in ca.warnings[0]
    async with ca.material() as port:
        assert await serving(port) == real


async def test_closing_gives_up_a_renewal_under_way(ca: OwnCa) -> None:
    async def begin(port: TlsMaterial) -> None:
        question = asyncio.create_task(port.server_identity())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        question.cancel()
        await asyncio.wait([question])

    async with ca.material() as port:
        await port.server_identity()
        ca.later(61)
        await begin(port)
    async with ca.material() as port:
        await serving(port)

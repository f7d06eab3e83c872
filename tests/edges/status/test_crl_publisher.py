"""When a CRL is made, what is on it, and that numbers only grow, whoever makes it and whatever fails."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from dataclasses import replace
from datetime import timedelta

import pytest
from cryptography import x509

from kipuka_core.domain.status_ports import StatusTimes
from kipuka_core.edges.status.crls import CrlPublisher
from kipuka_core.edges.store import open_store
from kipuka_core.errors import Unavailable
from kipuka_core.model.status import PublishedCrl
from kipuka_core.testing.pki import key_pem, make_root, name
from tests.edges.status.status_kit import REFRESH, VALIDITY, StatusSite, Token, read_crl, serials


async def test_a_crl_knows_of_every_revocation_before_the_call(site: StatusSite) -> None:
    publisher = site.publisher()
    first = await publisher.current()
    assert serials(read_crl(first.der, site.issuer)) == set()
    leaves = [await site.issued(number) for number in range(3)]
    assert (await publisher.current()) is first  # nothing has changed
    numbers = [first.facts.number]
    for count, leaf in enumerate(leaves, start=1):
        await site.revoke(leaf.serial_number)
        crl = await publisher.current()
        assert serials(read_crl(crl.der, site.issuer)) == {each.serial_number for each in leaves[:count]}
        numbers.append(crl.facts.number)
    assert numbers == sorted(set(numbers))


async def test_number_issuer_and_times_are_in_the_crl(site: StatusSite) -> None:
    published = await site.publisher().current()
    crl, now = read_crl(published.der, site.issuer), site.clock()
    assert crl.issuer == site.issuer.certificate.subject
    assert crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number == published.facts.number
    own = site.issuer.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    assert crl.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier == own
    assert (crl.last_update_utc, crl.next_update_utc) == (now, now + VALIDITY)


async def test_without_revocations_a_crl_is_made_anew_when_its_time_has_come(site: StatusSite) -> None:
    publisher = site.publisher()
    first = await publisher.current()
    site.clock.advance(seconds=REFRESH.total_seconds() - 1)
    assert await publisher.current() is first
    site.clock.advance(seconds=1)
    second = await publisher.current()
    assert second.facts.number > first.facts.number
    assert second.facts.this_update == site.clock()


async def test_a_hold_is_listed_and_its_release_takes_it_off(site: StatusSite) -> None:
    publisher, leaf = site.publisher(), await site.issued(1)
    await site.revoke(leaf.serial_number, 6)
    (entry,) = read_crl((await publisher.current()).der, site.issuer)
    reason = entry.extensions.get_extension_for_class(x509.CRLReason).value.reason
    assert reason is x509.ReasonFlags.certificate_hold
    await site.release(leaf.serial_number)
    for each in (publisher, site.publisher()):  # one that has seen the hold, and one that has not
        assert serials(read_crl((await each.current()).der, site.issuer)) == set()
    await site.revoke(leaf.serial_number, 1)
    assert serials(read_crl((await publisher.current()).der, site.issuer)) == {leaf.serial_number}


async def test_an_entry_stays_for_one_scheduled_crl_beyond_the_certificate_s_end(site: StatusSite) -> None:
    """RFC 5280 3.3; what is made because of a revocation is no scheduled CRL."""
    publisher = site.publisher()
    await publisher.current()
    ending = await site.issued(1, not_after=site.clock() + timedelta(hours=1))
    await site.revoke(ending.serial_number)
    site.clock.advance(hours=2)  # it has ended
    for number in (2, 3):
        await site.revoke((await site.issued(number)).serial_number)
        assert ending.serial_number in serials(read_crl((await publisher.current()).der, site.issuer))
    site.clock.advance(hours=23)
    scheduled = await publisher.current()
    assert ending.serial_number in serials(read_crl(scheduled.der, site.issuer))
    assert scheduled.facts.scheduled_at == scheduled.facts.this_update
    await site.revoke((await site.issued(4)).serial_number)
    for each in (publisher, site.publisher()):
        crl = read_crl((await each.make()).der, site.issuer)
        assert ending.serial_number not in serials(crl)
        assert len(crl) == 3


async def test_what_ended_while_the_server_was_off_is_on_the_next_crl(site: StatusSite) -> None:
    ending = await site.issued(1, not_after=site.clock() + timedelta(hours=1))
    await site.publisher().current()
    await site.revoke(ending.serial_number)
    site.clock.advance(days=100)
    publisher = site.publisher()
    assert serials(read_crl((await publisher.current()).der, site.issuer)) == {ending.serial_number}
    site.clock.advance(days=1)
    assert serials(read_crl((await publisher.current()).der, site.issuer)) == set()


async def test_revocations_that_come_all_the_time_do_not_keep_ended_entries_for_ever(site: StatusSite) -> None:
    publisher = site.publisher()
    ending = await site.issued(0, not_after=site.clock() + timedelta(hours=1))
    await site.revoke(ending.serial_number)
    for number in range(1, 40):
        await site.revoke((await site.issued(number)).serial_number)
        crl = await publisher.current()
        site.clock.advance(hours=2)
    assert ending.serial_number not in serials(read_crl(crl.der, site.issuer))


async def test_clients_at_once_get_one_crl(site: StatusSite) -> None:
    publisher, leaf = site.publisher(), await site.issued(1)
    await site.revoke(leaf.serial_number)
    crls = await asyncio.gather(*(publisher.current() for _ in range(20)))
    assert len({crl.facts.number for crl in crls}) == 1
    assert site.token.signatures == 1


async def test_two_makers_at_once_publish_growing_numbers_and_forget_no_revocation(site: StatusSite, url: str) -> None:
    leaves = [await site.issued(number) for number in range(12)]
    seen: list[PublishedCrl] = []
    async with open_store(url, clock=site.clock) as other:
        publishers = (site.publisher(), site.publisher(other))

        async def revoke_and_look(number: int) -> None:
            store, publisher = ((site.store, other)[number % 2], publishers[(number + 1) % 2])
            await site.revoke(leaves[number].serial_number, store=store)
            crl = await (publisher.make() if number % 3 == 0 else publisher.current())
            assert leaves[number].serial_number in serials(read_crl(crl.der, site.issuer))
            seen.append(crl)

        await asyncio.gather(*map(revoke_and_look, range(12)))
        last = await site.store.newest_crl(site.key_id)
    assert last is not None
    assert serials(read_crl(last.der, site.issuer)) == {leaf.serial_number for leaf in leaves}
    by_number = {crl.facts.number: crl.der for crl in seen}
    assert all(by_number[crl.facts.number] == crl.der for crl in seen)  # a number is one CRL
    assert max(by_number) == last.facts.number


async def test_a_crl_that_another_process_has_made_is_taken_as_it_is(site: StatusSite, url: str) -> None:
    made = await site.publisher().current()
    async with open_store(url, clock=site.clock) as other:
        assert (await site.publisher(other).current()).der == made.der
    assert site.token.signatures == 1


async def test_while_the_key_is_away_the_last_crl_serves_until_it_ends(site: StatusSite) -> None:
    publisher, leaf = site.publisher(), await site.issued(1)
    last = await publisher.current()
    site.token.is_away = True
    await site.revoke(leaf.serial_number)
    assert (await publisher.current()).der == last.der
    assert (await site.publisher().current()).der == last.der  # also after a restart
    site.clock.advance(seconds=VALIDITY.total_seconds())
    for each in (publisher, site.publisher()):
        with pytest.raises(Unavailable, match="no CRL can be made"):
            await each.current()


async def test_after_a_failure_clients_do_not_queue_up_and_service_comes_back(
    site: StatusSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    publisher = site.publisher()
    site.token.is_away = True
    for _ in range(5):
        with pytest.raises(Unavailable):
            await publisher.current()
    site.token.is_away = False
    with pytest.raises(Unavailable):  # nobody has tried again yet
        await publisher.current()
    assert site.token.signatures == 0
    now[0] += 2
    assert (await publisher.current()).facts.entries == 0


async def test_while_the_database_is_away_the_held_crl_serves(site: StatusSite, url: str) -> None:
    async with open_store(url, clock=site.clock) as other:
        publisher = site.publisher(other)
        held = await publisher.current()
    assert await publisher.current() is held  # the store is closed
    site.clock.advance(seconds=VALIDITY.total_seconds())
    with pytest.raises(Unavailable):
        await publisher.current()


async def test_a_crl_in_the_store_that_the_ca_did_not_sign_is_replaced(site: StatusSite) -> None:
    good = await site.publisher().current()
    forged = replace(good.facts, number=good.facts.number + 1)
    other = StatusSite(site.store, site.clock, issuer=make_root("Another"))
    der = (await other.publisher().current()).der
    assert await site.store.publish_crl(PublishedCrl(forged, der), number_before=good.facts.number)
    crl = await site.publisher().current()
    assert crl.facts.number > forged.number
    assert read_crl(crl.der, site.issuer).issuer == site.issuer.certificate.subject


async def test_a_ca_renamed_around_its_key_gets_a_crl_of_its_new_name(site: StatusSite) -> None:
    before = await site.publisher().current()
    renamed = make_root("Renamed")
    certificate = renamed.certify(replace(site.issuer, certificate=site.issuer.certificate)).certificate
    assert certificate.subject == site.issuer.certificate.subject
    builder = (
        x509.CertificateBuilder()
        .subject_name(name("Renamed CA"))
        .issuer_name(renamed.certificate.subject)
        .public_key(site.issuer.certificate.public_key())
        .serial_number(5)
        .not_valid_before(site.issuer.certificate.not_valid_before_utc)
        .not_valid_after(site.issuer.certificate.not_valid_after_utc)
    )
    signed = builder.sign(renamed.key, renamed.certificate.signature_hash_algorithm)  # type: ignore[arg-type]
    site.issuer = replace(site.issuer, certificate=signed)
    after = await site.publisher().current()
    assert read_crl(after.der, site.issuer).issuer == name("Renamed CA")
    assert after.facts.number > before.facts.number


async def test_a_signature_that_does_not_hold_is_never_published(site: StatusSite) -> None:
    wrong = make_root("Another key")
    site.issuer = replace(site.issuer, key=wrong.key)
    with pytest.raises(Unavailable):
        await site.publisher().current()
    assert await site.store.newest_crl(site.key_id) is None


@pytest.mark.parametrize("key_type", ["rsa2048", "ecdsa384", "ed25519", "ed448", "ml-dsa-65"])
async def test_the_crl_is_signed_by_the_ca_s_own_algorithm(site: StatusSite, key_type: str) -> None:
    site.issuer = make_root(key_type=key_type)
    leaf = await site.issued(1)
    await site.revoke(leaf.serial_number)
    crl = read_crl((await site.publisher().current()).der, site.issuer)
    assert crl.signature_algorithm_oid == site.issuer.certificate.signature_algorithm_oid


async def test_a_clock_that_was_set_back_does_not_lead_to_a_lower_number(site: StatusSite) -> None:
    first = await site.publisher().make()
    site.clock.advance(days=-30)
    assert (await site.publisher().make()).facts.number == first.facts.number + 1


async def test_a_lost_database_does_not_lead_to_a_lower_number(
    site: StatusSite, tmp_path_factory: pytest.TempPathFactory
) -> None:
    for _ in range(3):
        site.clock.advance(hours=1)
        last = await site.publisher().make()
    site.clock.advance(hours=1)
    url = f"sqlite:///{tmp_path_factory.mktemp('new')}/kipuka.db"
    async with open_store(url, clock=site.clock) as fresh:
        assert (await site.publisher(fresh).current()).facts.number > last.facts.number


KILLED = """
import asyncio, sys
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography import x509
from kipuka_core.edges.store import open_store
from kipuka_core.testing.pki import Authority
from tests.edges.status.status_kit import StatusSite
from tests.edges.store.store_samples import Clock

async def main(url, pem_file):
    pem = open(pem_file, "rb").read()
    issuer = Authority(x509.load_pem_x509_certificate(pem), load_pem_private_key(pem, None))
    clock = Clock()
    clock.advance(hours=1)
    async with open_store(url, clock=clock) as store:
        site = StatusSite(store, clock, issuer=issuer)
        async def signed_and_stuck(crl, *, number_before):
            print(crl.facts.number, flush=True)
            await asyncio.sleep(600)
        store.publish_crl = signed_and_stuck
        await site.publisher().make()

asyncio.run(main(*sys.argv[1:]))
"""


async def test_a_process_killed_between_number_and_publication_leaves_nothing_behind(
    site: StatusSite, url: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    before = await site.publisher().current()
    pem = tmp_path_factory.mktemp("issuer") / "issuer.pem"
    pem.write_bytes(site.issuer.pem + key_pem(site.issuer.key))
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-c", KILLED, url, str(pem)),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    assert process.stdout is not None
    signed = int(await process.stdout.readline())
    assert signed > before.facts.number
    process.send_signal(signal.SIGKILL)
    await process.wait()
    assert (await site.publisher().current()).der == before.der
    leaf = await site.issued(1)
    await site.revoke(leaf.serial_number)
    after = await site.publisher().current()
    assert after.facts.number > before.facts.number
    assert serials(read_crl(after.der, site.issuer)) == {leaf.serial_number}


async def test_times_are_those_of_the_ca(site: StatusSite) -> None:
    site.times = StatusTimes(crl_validity=timedelta(hours=3), crl_refresh=timedelta(hours=1))
    publisher: CrlPublisher = site.publisher()
    first = await publisher.current()
    assert first.facts.next_update - first.facts.this_update == timedelta(hours=3)
    site.clock.advance(hours=1)
    assert (await publisher.current()).facts.number > first.facts.number


def test_the_token_of_this_kit_can_be_away() -> None:
    with pytest.raises(Unavailable):
        asyncio.run(Token(is_away=True).run(int))

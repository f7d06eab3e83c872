"""The rules of a reload, step by step and without processes: all change over, or none does."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from kipuka_core.edges.serving.link import Message, MessageKind
from kipuka_core.edges.serving.reload import Outcome, Reloads

PREPARE, COMMIT, ABORT = MessageKind.PREPARE, MessageKind.COMMIT, MessageKind.ABORT


@dataclass
class Worker:
    name: str
    ready: bool = True
    heard: list[Message] = field(default_factory=list)

    def send(self, message: Message) -> bool:
        self.heard.append(message)
        return True

    def orders(self) -> list[MessageKind]:
        return [message.kind for message in self.heard]


class Site:
    """Three workers, a clock that stands still, and what was concluded."""

    def __init__(self) -> None:
        self.workers = [Worker("est-1"), Worker("est-2"), Worker("admin")]
        self.one, self.two, self.admin = self.workers
        self.now = 100.0
        self.concluded: list[Outcome] = []
        self.told: list[Outcome] = []
        self.hurried = 0
        self.reloads = Reloads(
            self.workers, hurry=self._hurry, conclude=self.concluded.append, clock=lambda: self.now, answer_seconds=30
        )

    def _hurry(self) -> None:
        self.hurried += 1

    def request(self) -> None:
        self.reloads.request(self.told.append)
        self.reloads.step()

    def prepared(self, worker: Worker, digest: str = "same", *, round_of: Message | None = None) -> None:
        number = (round_of or worker.heard[-1]).round
        listener = worker.name.partition("-")[0]
        text = f"{listener}: {digest}"
        answer = Message(MessageKind.PREPARED, number, text, listener=listener, digest=digest)
        self.reloads.heard(worker, answer)
        self.reloads.step()

    def refused(self, worker: Worker, why: str) -> None:
        self.reloads.heard(worker, Message(MessageKind.REFUSED, worker.heard[-1].round, why))
        self.reloads.step()

    def committed(self, worker: Worker) -> None:
        self.reloads.heard(worker, Message(MessageKind.COMMITTED, worker.heard[-1].round))
        self.reloads.step()

    def die(self, worker: Worker) -> None:
        was_ready, worker.ready = worker.ready, False
        self.reloads.lost(worker, was_ready=was_ready, how="was ended by SIGKILL")
        self.reloads.step()

    def come_back(self, worker: Worker) -> None:
        worker.ready = True
        self.reloads.step()

    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.reloads.step()

    def orders(self) -> list[list[MessageKind]]:
        return [worker.orders() for worker in self.workers]


@pytest.fixture
def site() -> Site:
    return Site()


def test_all_change_over_once_all_have_prepared(site: Site) -> None:
    site.request()
    for worker in site.workers:
        assert site.orders() == [[PREPARE]] * 3
        site.prepared(worker)
    assert site.orders() == [[PREPARE, COMMIT]] * 3
    assert site.told == []

    for worker in site.workers:
        site.committed(worker)

    assert site.told == site.concluded == [Outcome(True, ("est: same", "admin: same"))]
    assert site.reloads.deadline is None


def test_one_refusal_leaves_all_with_the_old_and_each_problem_is_told_once(site: Site) -> None:
    site.request()
    site.refused(site.one, "tls.cert: broken")
    site.prepared(site.admin)
    assert site.told == []  # what is wrong in the other one?
    site.refused(site.two, "tls.cert: broken")

    assert site.orders() == [[PREPARE, ABORT]] * 3
    assert site.told == site.concluded == [Outcome(False, ("tls.cert: broken",))]


def test_whoever_does_not_answer_in_time_has_failed(site: Site) -> None:
    site.request()
    site.prepared(site.one)
    site.prepared(site.admin)
    assert site.reloads.deadline == 130
    site.wait(29)
    assert site.told == []
    site.wait(1)

    assert site.told == [Outcome(False, ("est-2 did not answer within 30 s",))]
    assert site.orders() == [[PREPARE, ABORT]] * 3
    site.prepared(site.two, round_of=site.two.heard[0])  # too late
    assert site.two.orders() == [PREPARE, ABORT]


def test_the_replacement_of_a_worker_that_died_is_asked_in_its_place(site: Site) -> None:
    site.request()
    site.prepared(site.one)
    site.prepared(site.admin)
    site.die(site.one)
    site.prepared(site.two)
    assert site.told == []
    assert COMMIT not in site.two.orders()

    site.come_back(site.one)
    site.prepared(site.one)

    assert [orders[-1] for orders in site.orders()] == [COMMIT] * 3


def test_a_replacement_that_cannot_start_with_the_new_files_fails_the_reload_at_once(site: Site) -> None:
    site.request()
    site.die(site.one)
    site.prepared(site.two)
    site.prepared(site.admin)
    site.reloads.heard(site.one, Message(MessageKind.NOT_STARTED, text="tls.cert: broken"))
    site.die(site.one)

    assert site.told == [Outcome(False, ("tls.cert: broken",))]
    assert ABORT in site.two.orders()


def test_a_replacement_that_ends_without_a_word_is_named(site: Site) -> None:
    site.request()
    site.die(site.one)
    site.prepared(site.two)
    site.prepared(site.admin)
    site.die(site.one)

    assert site.told == [Outcome(False, ("est-1 was ended by SIGKILL before it was ready",))]


def test_a_replacement_that_never_comes_is_not_awaited_for_ever(site: Site) -> None:
    site.request()
    site.die(site.one)
    site.prepared(site.two)
    site.prepared(site.admin)
    site.wait(30)

    assert site.told == [Outcome(False, ("est-1 is not running",))]


def test_a_worker_that_waits_to_be_started_again_is_started_for_the_reload_and_asked(site: Site) -> None:
    site.one.ready = False
    site.request()
    assert site.hurried == 1
    site.prepared(site.two)
    site.prepared(site.admin)
    assert site.told == []
    site.come_back(site.one)
    site.prepared(site.one)
    assert COMMIT in site.two.orders()


def test_a_worker_that_dies_after_the_order_begins_with_the_new_files_anyway(site: Site) -> None:
    site.request()
    for worker in site.workers:
        site.prepared(worker)
    site.committed(site.two)
    site.committed(site.admin)
    site.die(site.one)

    assert [outcome.ok for outcome in site.told] == [True]


def test_a_worker_that_does_not_confirm_is_named(site: Site) -> None:
    site.request()
    for worker in site.workers:
        site.prepared(worker)
    site.committed(site.two)
    site.committed(site.admin)
    site.wait(30)

    assert site.told == [Outcome(False, ("est-1 has not confirmed that it serves the new files",))]


def test_requests_while_files_are_read_share_one_further_reload(site: Site) -> None:
    for _ in range(5):
        site.request()
    for worker in site.workers:
        site.prepared(worker)
    site.request()  # even now: the files may have changed after they were read
    for worker in site.workers:
        site.committed(worker)
    assert len(site.told) == len(site.concluded) == 1

    site.reloads.step()
    for worker in site.workers:
        site.prepared(worker)
    for worker in site.workers:
        site.committed(worker)

    assert len(site.told) == 6
    assert len(site.concluded) == 2
    assert site.orders() == [[PREPARE, COMMIT] * 2] * 3


def test_processes_that_read_different_files_read_them_again_a_little_later(site: Site) -> None:
    site.request()
    site.prepared(site.one, "old")
    site.prepared(site.two, "new")
    site.prepared(site.admin, "another listener")
    assert site.orders() == [[PREPARE, ABORT]] * 3
    assert site.reloads.deadline == 101
    site.wait(1)
    for worker in site.workers:
        site.prepared(worker, "new", round_of=worker.heard[0])  # of the first time: not believed
    assert site.orders() == [[PREPARE, ABORT, PREPARE]] * 3
    for worker in site.workers:
        site.prepared(worker, "new")
    for worker in site.workers:
        site.committed(worker)

    assert [outcome.ok for outcome in site.told] == [True]


def test_files_that_never_come_to_rest_are_not_served(site: Site) -> None:
    site.request()
    while not site.told:
        assert site.now < 200
        site.prepared(site.one, "old")
        site.prepared(site.two, "new")
        site.prepared(site.admin)
        site.wait(1)

    (outcome,) = site.told
    assert not outcome.ok
    assert "the files changed while they were read" in outcome.lines[0]
    assert all(COMMIT not in orders for orders in site.orders())


def test_a_server_that_stops_says_so_to_all_who_wait(site: Site) -> None:
    site.request()
    site.request()
    site.reloads.give_up("the server is being stopped")

    assert site.told == [Outcome(False, ("the server is being stopped",))] * 2
    assert site.concluded == []
    assert site.reloads.deadline is None
    site.prepared(site.one)  # nobody waits for it any more

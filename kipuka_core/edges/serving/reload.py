"""A reload over all worker processes: everybody reads and checks, then everybody changes over, or nobody does.

A pure state machine: the supervisor tells it what happens and lets it take a step in each turn of its loop.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from kipuka_core.edges.serving.link import Message, MessageKind

_PAUSE_SECONDS = 1.0


class Process(Protocol):
    """A worker as a reload sees it."""

    @property
    def name(self) -> str:
        """Unique among all workers, the same for a worker and its replacement."""
        ...

    @property
    def ready(self) -> bool:
        """Whether it runs and serves."""
        ...

    def send(self, message: Message) -> bool:
        """Send without waiting; False when that is not possible."""
        ...


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a reload ended: what is served now, or each distinct problem; one line each."""

    ok: bool
    lines: tuple[str, ...]


Tell = Callable[[Outcome], object]


@dataclass(slots=True)
class _Round:
    """One reload. ``number`` changes with each attempt, so that late answers to the one before are known as such."""

    number: int
    tell: list[Tell]
    agree_by: float
    deadline: float
    not_before: float = 0.0
    """When the files are read again, after they were not the same for all."""
    asked: set[str] = field(default_factory=set)
    answers: dict[str, Message] = field(default_factory=dict)
    committing: set[str] | None = None
    """Who has not confirmed yet, once all were told to change over."""

    @property
    def problems(self) -> tuple[str, ...]:
        """What the workers that refused have said, each thing once."""
        refused = (each.text for each in self.answers.values() if each.kind is not MessageKind.PREPARED)
        return tuple(dict.fromkeys(refused))


class Reloads:
    """One reload at a time; requests that come while one reads the files share the next one.

    ``hurry`` is called when a reload begins: whoever waits to be started again shall be started now. ``conclude`` is
    told how each reload ended, before those who asked for it. A worker has ``answer_seconds`` for each of its answers.
    One that dies meanwhile is not a failure of its own: its replacement reads the same files and is asked in its place.
    """

    def __init__(
        self,
        processes: Sequence[Process],
        *,
        hurry: Callable[[], object] = lambda: None,
        conclude: Tell = lambda _: None,
        answer_seconds: float = 30.0,
        pause_seconds: float = _PAUSE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._processes = processes
        self._hurry = hurry
        self._conclude = conclude
        self._answer_seconds = answer_seconds
        self._pause_seconds = pause_seconds
        self._clock = clock
        self._numbers = 0
        self._round: _Round | None = None
        self._requests: list[Tell] = []

    @property
    def deadline(self) -> float | None:
        """When the next step is due even if nothing happens; None: never."""
        if self._round is None:
            return self._clock() if self._requests else None
        current = self._round
        return current.not_before if self._clock() < current.not_before else current.deadline

    def request(self, tell: Tell = lambda _: None) -> None:
        """Ask for a reload of the files as they are now. Every asker is told the outcome."""
        if self._round is not None and not self._round.asked:
            self._round.tell.append(tell)
        else:
            self._requests.append(tell)

    def heard(self, process: Process, message: Message) -> None:
        """A worker has said something; what belongs to no present reload is of no interest."""
        current = self._round
        if current is None:
            return
        if message.kind is MessageKind.NOT_STARTED and current.committing is None:
            current.answers[process.name] = message
        elif message.round != current.number or process.name not in current.asked:
            return
        elif current.committing is None and message.kind in {MessageKind.PREPARED, MessageKind.REFUSED}:
            current.answers[process.name] = message
        elif current.committing is not None and message.kind is MessageKind.COMMITTED:
            current.committing.discard(process.name)

    def lost(self, process: Process, *, was_ready: bool, how: str) -> None:
        """A worker has ended. What a replacement failed of stays its answer."""
        current = self._round
        if current is None:
            return
        current.asked.discard(process.name)
        if current.committing is not None:
            current.committing.discard(process.name)  # its replacement begins with the new files
        elif was_ready:
            current.answers.pop(process.name, None)
        elif process.name not in current.answers:
            problem = f"{process.name} {how} before it was ready"
            current.answers[process.name] = Message(MessageKind.NOT_STARTED, text=problem)

    def step(self) -> None:
        """Do what can be done now."""
        if self._round is None and self._requests:
            self._numbers += 1
            deadline = self._clock() + self._answer_seconds
            self._round = _Round(self._numbers, self._requests, agree_by=deadline, deadline=deadline)
            self._requests = []
            self._hurry()
        if self._round is not None and self._round.committing is None:
            self._gather(self._round)
        if self._round is not None and self._round.committing is not None:
            self._await_confirmations(self._round, self._round.committing)

    def give_up(self, why: str) -> None:
        """Tell everybody who waits that nothing comes of it."""
        waiting = [*(self._round.tell if self._round else ()), *self._requests]
        self._round, self._requests = None, []
        for tell in waiting:
            tell(Outcome(False, (why,)))

    def _gather(self, current: _Round) -> None:
        if self._clock() < current.not_before:
            return
        for process in self._processes:
            if process.ready and process.name not in current.asked:
                current.asked.add(process.name)
                current.answers.pop(process.name, None)
                process.send(Message(MessageKind.PREPARE, round=current.number))
        missing = [process for process in self._processes if process.name not in current.answers]
        is_late = self._clock() >= current.deadline
        if missing and not is_late and (not current.problems or any(process.ready for process in missing)):
            return
        problems = (*current.problems, *(self._missing(process) for process in missing if is_late))
        if problems:
            self._fail(current, problems)
        elif self._disagree(current):
            self._try_again(current)
        else:
            current.committing = {process.name for process in self._processes}
            current.deadline = self._clock() + self._answer_seconds
            self._tell_all(Message(MessageKind.COMMIT, round=current.number))

    def _missing(self, process: Process) -> str:
        if process.ready:
            return f"{process.name} did not answer within {self._answer_seconds:g} s"
        return f"{process.name} is not running"

    @staticmethod
    def _disagree(current: _Round) -> bool:
        """Whether processes that serve the same listener have read different files."""
        answers = current.answers.values()
        return len({(each.listener, each.digest) for each in answers}) > len({each.listener for each in answers})

    def _try_again(self, current: _Round) -> None:
        """The files are being changed, or one process knows of a renewal before the others: a little later, then."""
        if self._clock() >= current.agree_by:
            self._fail(current, ("the files changed while they were read: reload again when all of them are in place",))
            return
        self._tell_all(Message(MessageKind.ABORT, round=current.number))
        self._numbers += 1
        current.number, current.not_before = self._numbers, self._clock() + self._pause_seconds
        current.deadline = current.not_before + self._answer_seconds
        current.asked.clear()
        current.answers.clear()

    def _fail(self, current: _Round, problems: tuple[str, ...]) -> None:
        self._tell_all(Message(MessageKind.ABORT, round=current.number))
        self._end(current, Outcome(False, problems))

    def _await_confirmations(self, current: _Round, unconfirmed: set[str]) -> None:
        if not unconfirmed:
            lines = dict.fromkeys(current.answers[process.name].text for process in self._processes)
            self._end(current, Outcome(True, tuple(lines)))
        elif self._clock() >= current.deadline:
            # It was able to a moment ago and has hung since. The order waits for it, ahead of any new connection.
            problems = (f"{name} has not confirmed that it serves the new files" for name in sorted(unconfirmed))
            self._end(current, Outcome(False, tuple(problems)))

    def _tell_all(self, message: Message) -> None:
        for process in self._processes:
            if process.ready:
                process.send(message)

    def _end(self, current: _Round, outcome: Outcome) -> None:
        self._round = None
        self._conclude(outcome)
        for tell in current.tell:
            tell(outcome)

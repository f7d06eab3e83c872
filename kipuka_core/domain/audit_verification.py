"""Whether audit files are as they were written: every line unchanged, in its place, and none missing.

What a line proves stands in :mod:`kipuka_core.model.audit_chain`; how far each chain had come, the store knows.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from kipuka_core.model.audit_chain import START, AuditHead, ChainKey, Link, link_of


class FindingKind(StrEnum):
    """What is said of a line. The first group is damage, the second what honest crashes leave behind."""

    CHANGED = "changed"
    """The line is not what was written, or was not written with this key."""
    FOREIGN = "foreign"
    """The line is in no chain: somebody else wrote it."""
    MISSING = "missing"
    """Lines that stood before this one are gone."""
    REORDERED = "reordered"
    """The line stands after one that was written later."""
    REPEATED = "repeated"
    """The line is there twice."""
    DISPLACED = "displaced"
    """The line does not begin at the byte where it was written: something before it was removed, added or moved."""
    CUT = "cut"
    """A chain goes on in the store's word, and ends here."""

    TORN = "torn"
    """Half a line, as a crash or a full disk leaves it; its event was never confirmed."""
    UNANCHORED = "unanchored"
    """Genuine lines beyond what the store knows: they were written right before a crash, or just now."""
    OTHER_KEY = "other_key"
    """Chains of another key, so another host's or an older one's; they were not looked for."""


_HONEST = frozenset({FindingKind.TORN, FindingKind.UNANCHORED, FindingKind.OTHER_KEY})


@dataclass(frozen=True, slots=True)
class Finding:
    """Something about a line; ``file`` is empty and ``line`` 0 where there is none."""

    kind: FindingKind
    file: str
    line: int
    text: str

    @property
    def is_damage(self) -> bool:
        """Whether somebody, or a failing disk, did this after the line was written."""
        return self.kind not in _HONEST

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}: " if self.file else ""
        return f"{where}{self.kind}: {self.text}"


@dataclass(frozen=True, slots=True)
class AuditFile:
    """One file, oldest first among its kind; ``open`` gives its lines with their newlines, anew at each call."""

    name: str
    open: Callable[[], Iterable[bytes]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """What was found, in the order of the files and lines."""

    lines: int
    chains: int
    findings: tuple[Finding, ...]

    @property
    def is_whole(self) -> bool:
        """Whether nothing was changed, removed, added or moved."""
        return not any(finding.is_damage for finding in self.findings)


def verify(
    files: Sequence[AuditFile],
    heads: Iterable[AuditHead],
    key: ChainKey,
    *,
    since: datetime | None = None,
    wanted: Callable[[AuditHead], bool] = lambda _: True,
) -> Verification:
    """Hold files against the store's ``heads``, which have to be read before the files.

    ``since``: what was written before may be missing, because older files were removed; None: nothing may.
    ``wanted`` says which chains belong to these files; those of which a line is found do in any case.
    """
    heads = list(heads)
    own = {head.writer: head for head in heads if head.key_id == key.id}
    reading = _Reading(key, own)
    for number, file in enumerate(files):
        reading.read(number, file)
    reading.conclude(since, wanted)
    others = [head for head in heads if head.key_id != key.id and wanted(head)]
    if others:
        text = f"the store knows {len(others)} chains of another key; they were not looked for"
        reading.find(FindingKind.OTHER_KEY, None, text)
    return Verification(lines=reading.lines, chains=len(reading.chains), findings=reading.findings())


@dataclass(frozen=True, slots=True)
class _Place:
    """A line, by its number among all lines, and by file and line."""

    index: int
    file_number: int
    file: str
    line: int


@dataclass(slots=True)
class _Gap:
    """Lines ``first`` to ``last`` of a chain that were not there when ``place`` was read."""

    first: int
    last: int
    place: _Place


@dataclass(slots=True)
class _Chain:
    writer: str
    seq: int = 0
    mac: str | None = START
    """None: not known, since the line before was changed."""
    place: _Place | None = None
    began: _Gap | None = None
    """What its first line that was found had before it."""
    gaps: list[_Gap] = field(default_factory=list)
    ahead: tuple[int, str, _Place] | None = None
    """A line (its number and mac) that came before its turn: what follows says whether lines are missing before it, or
    it stands in the wrong place."""
    had: dict[int, str] = field(default_factory=dict)
    """Lines that stood before their turn, by number: their macs."""

    def advance(self, seq: int, mac: str | None, place: _Place) -> None:
        self.seq, self.mac, self.place = seq, mac, place
        while self.seq + 1 in self.had:
            self.seq += 1
            self.mac = self.had.pop(self.seq)


@dataclass(slots=True)
class _Suspect:
    """A line that may be any: no chain counts it."""

    place: _Place
    kind: FindingKind
    text: str


class _Reading:
    """What is known while files are read, line by line."""

    def __init__(self, key: ChainKey, heads: dict[str, AuditHead]) -> None:
        self.lines = 0
        self.chains: dict[str, _Chain] = {}
        self._key = key
        self._heads = heads
        self._found: list[tuple[int, Finding]] = []
        self._suspects: list[_Suspect] = []
        self._place = _Place(0, 0, "", 0)
        self._shift = 0
        self._is_disturbed = False
        self._first_time: datetime | None = None

    def read(self, number: int, file: AuditFile) -> None:
        offset = self._shift = 0
        self._is_disturbed = False
        for line_number, raw in enumerate(file.open(), 1):
            self.lines += 1
            self._place = _Place(self.lines, number, file.name, line_number)
            line = raw.removesuffix(b"\n")
            link = link_of(line, self._key)
            if number == 0 and line_number == 1:
                self._first_time = _time_of(line)
            if link is None:
                self._unlinked(line)
            elif link.is_genuine:
                self._genuine(link, offset)
            else:
                self._changed()
            offset += len(raw)

    def find(self, kind: FindingKind, place: _Place | None, text: str) -> None:
        file, line = (place.file, place.line) if place else ("", 0)
        self._found.append((place.index if place else self.lines + 1, Finding(kind, file, line, text)))

    def findings(self) -> tuple[Finding, ...]:
        return tuple(finding for _, finding in sorted(self._found, key=lambda each: each[0]))

    # -- one line --------------------------------------------------------------------------------------------------
    def _unlinked(self, line: bytes) -> None:
        if line.endswith(b"}}") or _is_object(line):
            text = "is in no chain: it was added, or its link was changed"
            self._suspects.append(_Suspect(self._place, FindingKind.FOREIGN, text))
            self._is_disturbed = True
        else:
            text = "half a line, of a write that a crash or a full disk cut short"
            self._suspects.append(_Suspect(self._place, FindingKind.TORN, text))

    def _changed(self) -> None:
        self.find(FindingKind.CHANGED, self._place, "is not what was written, or was not written with this key")
        self._suspects.append(_Suspect(self._place, FindingKind.CHANGED, ""))
        self._is_disturbed = True

    def _genuine(self, link: Link, offset: int) -> None:
        chain = self.chains.get(link.writer)
        if chain is None:
            chain = self.chains[link.writer] = _Chain(link.writer)
            if link.seq > 1:
                if not self._is_accounted_for(link.seq - 1, chain):
                    chain.began = _Gap(1, link.seq - 1, self._place)
                chain.seq, chain.mac = link.seq - 1, None
        is_in_place = self._in_order(chain, link)
        head = self._heads.get(link.writer)
        if head is not None and head.seq == link.seq and head.mac != link.mac:
            self.find(FindingKind.CHANGED, self._place, "is not the line that the store knows by this number")
        self._in_place(offset - link.at, was_noted=not is_in_place)

    def _in_order(self, chain: _Chain, link: Link) -> bool:
        """Whether nothing is wrong with the line's number."""
        if chain.ahead is not None and link.seq > chain.ahead[0]:
            self._are_missing(chain)
        if link.seq > chain.seq + 1 and not self._is_accounted_for(link.seq - chain.seq - 1, chain):
            self._was_misplaced(chain)
            chain.ahead = (link.seq, link.mac, self._place)
            return False
        if link.seq > chain.seq:
            self._was_misplaced(chain)
            if chain.mac is not None and chain.mac != link.prev:
                self.find(FindingKind.CHANGED, self._place, "does not follow the line before it in its chain")
            chain.advance(link.seq, link.mac, self._place)
            return True
        self._came_late(chain, link.seq)
        return False

    def _are_missing(self, chain: _Chain) -> None:
        """Lines are missing before the one that was ahead: the chain goes on behind it."""
        if chain.ahead is None:
            return
        seq, mac, place = chain.ahead
        chain.ahead = None
        if seq > chain.seq + 1:
            chain.gaps.append(_Gap(chain.seq + 1, seq - 1, place))
        if seq > chain.seq:
            chain.advance(seq, mac, place)

    def _was_misplaced(self, chain: _Chain) -> None:
        """The chain goes on in front of the line that was ahead."""
        if chain.ahead is None:
            return
        seq, mac, place = chain.ahead
        chain.ahead = None
        chain.had[seq] = mac
        text = f"line {seq} of chain {chain.writer} stands before lines that were written earlier"
        self.find(FindingKind.REORDERED, place, text)

    def _came_late(self, chain: _Chain, seq: int) -> None:
        gap = next((each for each in chain.gaps if each.first <= seq <= each.last), None)
        if gap is None:
            self.find(FindingKind.REPEATED, self._place, f"line {seq} of chain {chain.writer} is there already")
            return
        chain.gaps.remove(gap)
        rest = (_Gap(gap.first, seq - 1, gap.place), _Gap(seq + 1, gap.last, gap.place))
        chain.gaps += [each for each in rest if each.first <= each.last]
        text = f"line {seq} of chain {chain.writer} stands after lines that were written later"
        self.find(FindingKind.REORDERED, self._place, text)

    def _is_accounted_for(self, count: int, chain: _Chain) -> bool:
        """Whether as many lines that no chain counts stand behind the chain's last one: then they are its lines.

        What looked torn was damaged then, since a torn line has no number of its own.
        """
        after = chain.place.index if chain.place else 0
        suspects = [each for each in self._suspects if each.place.index > after]
        if len(suspects) < count:
            return False
        for suspect in suspects[:count]:
            self._suspects.remove(suspect)
            if suspect.kind is not FindingKind.CHANGED:
                text = f"is not what was written: it was a line of chain {chain.writer}"
                self.find(FindingKind.CHANGED, suspect.place, text)
        chain.mac = None
        return True

    def _in_place(self, shift: int, *, was_noted: bool) -> None:
        """Whether the line begins where it was written; ``shift`` is how far it does not.

        Told once for all the lines that one change has shifted.
        """
        if shift == self._shift:
            self._is_disturbed = was_noted
            return
        if not self._is_disturbed and not was_noted:
            moved = shift - self._shift
            what = f"{-moved} bytes less" if moved < 0 else f"{moved} bytes more"
            text = f"{what} stand before it than when it was written: lines were removed, added or moved"
            self.find(FindingKind.DISPLACED, self._place, text)
        self._shift = shift
        self._is_disturbed = True

    # -- all lines -------------------------------------------------------------------------------------------------
    def conclude(self, since: datetime | None, wanted: Callable[[AuditHead], bool]) -> None:
        for chain in self.chains.values():
            self._are_missing(chain)
            if chain.began is not None and not self._may_begin_here(chain.began, since):
                self._missing(chain, chain.began, "; give the older files too, or say with --since what is to be whole")
            for gap in chain.gaps:
                self._missing(chain, gap)
        for head in self._heads.values():
            self._hold_against(head, since, wanted)
        for chain in self.chains.values():
            if chain.writer not in self._heads:
                text = f"chain {chain.writer} is not known to the store yet: it began right before a crash, or just now"
                self.find(FindingKind.UNANCHORED, chain.place, text)
        for suspect in self._suspects:
            if suspect.kind is not FindingKind.CHANGED:  # of which was told when it was read
                self.find(suspect.kind, suspect.place, suspect.text)

    def _may_begin_here(self, began: _Gap, since: datetime | None) -> bool:
        """Whether older files than the first may hold what is before: they end before ``since``."""
        if since is None or began.place.file_number != 0 or self._first_time is None:
            return False
        return self._first_time <= since

    def _missing(self, chain: _Chain, gap: _Gap, hint: str = "") -> None:
        text = f"{_lines(gap.first, gap.last)} of chain {chain.writer} before it {_are(gap)} missing{hint}"
        self.find(FindingKind.MISSING, gap.place, text)

    def _hold_against(self, head: AuditHead, since: datetime | None, wanted: Callable[[AuditHead], bool]) -> None:
        chain = self.chains.get(head.writer)
        stamp = head.time.isoformat(timespec="seconds").replace("+00:00", "Z")
        if chain is None:
            if not wanted(head) or (since is not None and head.time < since):
                return
            if not self._is_accounted_for(head.seq, _Chain(head.writer)):
                text = f"all {head.seq} lines of chain {head.writer}, written to {head.file} until {stamp}, are missing"
                self.find(FindingKind.MISSING, None, text)
            return
        if chain.seq > head.seq:
            text = (
                f"the last {chain.seq - head.seq} lines of chain {head.writer} up to here are genuine and not known"
                " to the store yet: they were written right before a crash, or just now"
            )
            self.find(FindingKind.UNANCHORED, chain.place, text)
        elif chain.seq < head.seq and not self._is_accounted_for(head.seq - chain.seq, chain):
            gone = _Gap(chain.seq + 1, head.seq, self._place)
            text = (
                f"{_lines(gone.first, gone.last)} of chain {head.writer} after it {_are(gone)} missing:"
                f" the chain went on until {stamp}"
            )
            self.find(FindingKind.CUT, chain.place, text)


def _lines(first: int, last: int) -> str:
    return f"line {first}" if first == last else f"lines {first} to {last}"


def _are(gap: _Gap) -> str:
    return "is" if gap.first == gap.last else "are"


def _is_object(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _time_of(line: bytes) -> datetime | None:
    try:
        return datetime.fromisoformat(json.loads(line)["time"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return None

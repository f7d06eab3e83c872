"""Damage to audit files is found and located; what honest crashes leave behind is told from it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from kipuka_builtin.chain import ChainEnd
from kipuka_core.domain.audit_verification import AuditFile, FindingKind, Verification, verify
from kipuka_core.model.audit_chain import AuditHead, ChainKey, chained

KEY = ChainKey(bytes(range(32)))
FILE = Path("/var/lib/kipuka/audit.jsonl")
BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
LINES = 100_000


def event_json(number: int) -> bytes:
    moment = (BEGAN + timedelta(seconds=number)).isoformat()
    return json.dumps(
        {"event": "enrolment_refused", "time": moment, "request_id": f"{number:08d}"}, separators=(",", ":")
    ).encode()


class Trail:
    """Lines of several writers in one file, or in several."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.ends: dict[str, ChainEnd] = {}
        self.at = 0
        self.number = 0

    def write(self, writer: str = "a", count: int = 1) -> None:
        for _ in range(count):
            end = self.ends.get(writer) or replace(ChainEnd.new(), writer=writer * 16)
            line, self.ends[writer] = end.extended([event_json(self.number)], at=self.at, key=KEY)
            self.number += 1
            self.lines.append(line)
            self.at += len(line)

    def rotate(self) -> list[bytes]:
        old, self.lines, self.at = self.lines, [], 0
        return old

    def heads(self) -> list[AuditHead]:
        when = BEGAN + timedelta(seconds=self.number)
        return [
            AuditHead(writer=end.writer, key_id=KEY.id, file=FILE, seq=end.seq, mac=end.mac, time=when)
            for end in self.ends.values()
        ]


def checked(lines: Sequence[bytes], heads: Iterable[AuditHead], since: datetime | None = None) -> Verification:
    return verify([AuditFile("audit.jsonl", lambda: lines)], heads, KEY, since=since)


def told(result: Verification) -> list[tuple[str, int]]:
    return [(str(finding.kind), finding.line) for finding in result.findings]


def two_writers(count: int = 10) -> Trail:
    trail = Trail()
    for _ in range(count):
        trail.write("a")
        trail.write("b")
    return trail


@pytest.fixture(scope="module")
def large() -> Trail:
    trail = Trail()
    for number in range(LINES):
        trail.write("abc"[number % 3])
    return trail


def test_what_was_written_is_whole(large: Trail) -> None:
    result = checked(large.lines, large.heads())
    assert (result.is_whole, result.findings, result.lines, result.chains) == (True, (), LINES, 3)


def one_byte_changed(lines: list[bytes]) -> None:
    lines[41_999] = lines[41_999].replace(b"enrolment", b"enrolmenT", 1)


def one_line_removed(lines: list[bytes]) -> None:
    del lines[41_999]


def two_swapped(lines: list[bytes]) -> None:
    lines[41_999], lines[52_000] = lines[52_000], lines[41_999]


def neighbours_swapped(lines: list[bytes]) -> None:
    lines[41_999], lines[42_000] = lines[42_000], lines[41_999]


def the_tail_cut(lines: list[bytes]) -> None:
    del lines[99_990:]


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (one_byte_changed, [("changed", 42_000)]),
        # Removed before what is line 42 000 now; its own chain misses it three lines later.
        (one_line_removed, [("displaced", 42_000), ("missing", 42_002)]),
        (neighbours_swapped, [("displaced", 42_000)]),
        (the_tail_cut, [("cut", 99_988), ("cut", 99_989), ("cut", 99_990)]),
    ],
)
def test_damage_among_a_hundred_thousand_lines_is_found_and_located(
    large: Trail, damage: Callable[[list[bytes]], None], expected: list[tuple[str, int]]
) -> None:
    lines = list(large.lines)
    damage(lines)
    result = checked(lines, large.heads())
    assert not result.is_whole
    assert told(result) == expected


def test_two_lines_far_apart_that_were_swapped_are_both_named(large: Trail) -> None:
    lines = list(large.lines)
    two_swapped(lines)
    result = checked(lines, large.heads())
    assert told(result) == [("reordered", 42_000), ("reordered", 52_001)]


@pytest.mark.parametrize("line", [0, 7, 19])
@pytest.mark.parametrize("where", ["event", "writer", "seq", "at", "prev", "mac", "end"])
def test_one_byte_changed_anywhere_in_a_line_is_found_at_that_line(line: int, where: str) -> None:
    trail = two_writers()
    lines = list(trail.lines)
    content = lines[line]
    markers = {"event": b'"event":"', "end": b""} | {name: f'"{name}":'.encode() for name in ("seq", "at")}
    markers |= {name: f'"{name}":"'.encode() for name in ("writer", "prev", "mac")}
    at = len(content) - 3 if where == "end" else content.index(markers[where]) + len(markers[where])
    lines[line] = content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]
    result = checked(lines, trail.heads())
    assert not result.is_whole
    assert ("changed", line + 1) in told(result)
    assert {number for _, number in told(result)} == {line + 1}


@pytest.mark.parametrize("number", range(20))
def test_every_line_that_is_removed_is_missed(number: int) -> None:
    trail = two_writers()
    lines = list(trail.lines)
    del lines[number]
    assert not checked(lines, trail.heads()).is_whole


@pytest.mark.parametrize("number", range(19))
def test_every_two_neighbours_that_are_swapped_are_noticed_whoever_wrote_them(number: int) -> None:
    trail = two_writers()
    lines = list(trail.lines)
    lines[number], lines[number + 1] = lines[number + 1], lines[number]
    result = checked(lines, trail.heads())
    assert not result.is_whole
    assert min(line for _, line in told(result)) == number + 1


def test_the_only_line_of_a_chain_that_was_changed_is_not_missed_too() -> None:
    trail = two_writers(3)
    trail.write("c")
    lines = list(trail.lines)
    lines[6] = lines[6].replace(b"enrolment", b"enrolmenT", 1)
    assert told(checked(lines, trail.heads())) == [("changed", 7)]


def test_lines_of_one_writer_that_are_swapped_are_told_as_that() -> None:
    trail = Trail()
    trail.write("a", 10)
    lines = list(trail.lines)
    lines[3], lines[4] = lines[4], lines[3]
    assert told(checked(lines, trail.heads())) == [("reordered", 4)]


def test_a_line_that_is_repeated_is_found() -> None:
    trail = two_writers()
    lines = list(trail.lines)
    lines.insert(9, lines[4])
    assert told(checked(lines, trail.heads())) == [("repeated", 10)]


@pytest.mark.parametrize("added", [b'{"event":"x"}\n', b'{"event":"x","chain":{}}\n'])
@pytest.mark.parametrize("number", [0, 10, 20])
def test_a_line_of_somebody_else_is_found(added: bytes, number: int) -> None:
    trail = two_writers()
    lines = list(trail.lines)
    lines.insert(number, added)
    assert told(checked(lines, trail.heads())) == [("foreign", number + 1)]


def test_a_line_forged_by_somebody_who_knows_the_format_and_not_the_key_is_found() -> None:
    trail = two_writers()
    end = trail.ends["a"]
    forged, _ = chained(
        event_json(99), writer=end.writer, seq=end.seq + 1, at=trail.at, prev=end.mac, key=ChainKey(b"?" * 32)
    )
    assert told(checked([*trail.lines, forged], trail.heads())) == [("changed", 21)]


def test_a_whole_chain_that_is_removed_is_missed() -> None:
    trail = Trail()
    trail.write("a", 5)
    trail.write("b", 5)
    assert told(checked(trail.lines[:5], trail.heads())) == [("missing", 0)]
    assert told(checked(trail.lines[5:], trail.heads())) == [("displaced", 1), ("missing", 0)]
    assert told(checked([], trail.heads())) == [("missing", 0), ("missing", 0)]


# -- honest crashes ----------------------------------------------------------------------------------------------------
def test_half_a_line_of_a_crash_is_no_damage() -> None:
    trail = two_writers()
    torn = b'{"event":"certificate_issued","time":"20'
    trail.lines.append(torn + b"\n")
    trail.at += len(torn) + 1
    trail.write("c", 3)
    result = checked(trail.lines, trail.heads())
    assert told(result) == [("torn", 21)]
    assert result.is_whole
    assert checked([*trail.lines, torn], trail.heads()).is_whole


def test_half_a_line_in_the_place_of_a_whole_one_is_damage() -> None:
    trail = two_writers()
    lines = list(trail.lines)
    lines[6] = lines[6][:50] + b"\n"
    result = checked(lines, trail.heads())
    assert told(result)[0] == ("changed", 7)
    assert not result.is_whole


def test_the_last_line_cut_in_half_after_it_was_confirmed_is_damage() -> None:
    trail = two_writers()
    lines = [*trail.lines[:-1], trail.lines[-1][:60]]
    assert told(checked(lines, trail.heads())) == [("changed", 20)]


def test_lines_that_were_written_right_before_a_crash_are_told_from_forged_ones() -> None:
    trail = two_writers()
    heads = trail.heads()
    trail.write("a", 2)
    trail.write("c", 1)
    result = checked(trail.lines, heads)
    assert told(result) == [("unanchored", 22), ("unanchored", 23)]
    assert result.is_whole


def test_chains_of_another_key_are_named_and_not_missed() -> None:
    trail = two_writers()
    foreign = replace(trail.heads()[0], writer="f" * 16, key_id="0" * 16)
    result = checked(trail.lines, [*trail.heads(), foreign])
    assert [finding.kind for finding in result.findings] == [FindingKind.OTHER_KEY]
    assert result.is_whole


# -- several files -----------------------------------------------------------------------------------------------------
def rotated() -> tuple[list[list[bytes]], list[AuditHead]]:
    trail = Trail()
    files = []
    for _ in range(3):
        for _ in range(5):
            trail.write("a")
            trail.write("b")
        files.append(trail.rotate())
    return files, trail.heads()


def over(files: Sequence[Sequence[bytes]], heads: Iterable[AuditHead], since: datetime | None = None) -> Verification:
    def opener(lines: Sequence[bytes]) -> Callable[[], Iterable[bytes]]:
        return lambda: lines

    named = [AuditFile(f"audit.{number}", opener(lines)) for number, lines in enumerate(files)]
    return verify(named, heads, KEY, since=since)


def test_a_chain_goes_on_over_files() -> None:
    files, heads = rotated()
    assert over(files, heads).findings == ()


def test_older_files_that_were_removed_are_missed_unless_they_may_be() -> None:
    files, heads = rotated()
    assert told(over(files[1:], heads)) == [("missing", 1), ("missing", 2)]
    assert over(files[1:], heads, BEGAN + timedelta(seconds=15)).is_whole
    assert not over(files[1:], heads, BEGAN + timedelta(seconds=5)).is_whole
    assert told(over([files[0], files[2]], heads, BEGAN)) == [("missing", 1), ("missing", 2)]
    assert [kind for kind, _ in told(over(files[:2], heads, BEGAN))] == ["cut", "cut"]


def test_a_chain_that_ended_before_what_is_to_be_whole_may_be_gone() -> None:
    trail = Trail()
    trail.write("a", 5)
    old = trail.heads()
    trail.rotate()
    trail.write("b", 5)
    heads = [*old, *(head for head in trail.heads() if head.writer.startswith("b"))]
    assert told(checked(trail.lines, heads)) == [("missing", 0)]
    assert checked(trail.lines, heads, BEGAN + timedelta(seconds=6)).is_whole

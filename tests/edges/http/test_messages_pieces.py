"""A long answer leaves in pieces, so that a client that reads slowly holds one of them and not all."""

from typing import Any

import pytest

from kipuka_core.edges.http.messages import Response

PIECE = 1 << 16


@pytest.mark.parametrize("length", [0, 1, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE, 4_100_000])
async def test_the_pieces_are_the_body_and_only_the_last_says_that_it_is(length: int) -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    body = bytes(range(256)) * (length // 256 + 1)
    await Response(200, "application/pkix-crl", body[:length]).send(send)
    start, *pieces = sent
    assert (b"content-length", str(length).encode()) in start["headers"]
    assert b"".join(piece["body"] for piece in pieces) == body[:length]
    assert all(len(piece["body"]) <= PIECE for piece in pieces)
    assert [piece.get("more_body", False) for piece in pieces] == [True] * (len(pieces) - 1) + [False]
    assert len(pieces) == max(1, -(-length // PIECE))


async def test_head_sends_the_length_and_nothing_else() -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    await Response(200, "application/pkix-crl", bytes(5 * PIECE)).send(send, with_body=False)
    assert [message.get("body") for message in sent] == [None, b""]

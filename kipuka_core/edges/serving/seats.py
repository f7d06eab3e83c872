"""Who may have how many of a listener's connections.

A connection counts for its client's address. One that comes by a load balancer counts for its client once the PROXY
protocol header is there, and until then, by a number of its own, for the balancer: all clients come from its address.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Literal

from kipuka_core.model.client_network import client_network

_LEAST_AWAITING_HEADER = 64

_Key = tuple[Literal["client", "awaiting header"], str]


class NoSeat(Exception):
    """There is no room; ``in_all`` when for nobody, else for this address."""

    def __init__(self, *, in_all: bool) -> None:
        super().__init__("all connections are taken" if in_all else "this address has all of its connections")
        self.in_all = in_all


@dataclass(slots=True)
class Seat:
    """One open connection: its client's address and port, and what it is counted under (None: nothing)."""

    host: str
    port: int
    counted_as: _Key | None = None


class Seats:
    """The connections of one listener: ``total`` at once, ``per_address`` of them for one client network.

    One balancer may have a quarter of all, and at least 64, open without a header: more than those whose header is on
    its way, and so few that others get in when somebody at its address sends none.
    """

    def __init__(self, *, total: int, per_address: int) -> None:
        self._total = total
        self._limits = {"client": per_address, "awaiting header": max(_LEAST_AWAITING_HEADER, total // 4)}
        self._taken: Counter[_Key] = Counter()
        self.open = 0

    def take(self, host: str, port: int, *, awaits_header: bool = False) -> Seat:
        """A seat for a connection that was accepted. Raises NoSeat."""
        if self.open >= self._total:
            raise NoSeat(in_all=True)
        seat = Seat(host, port)
        self._count(seat, ("awaiting header", host) if awaits_header else ("client", client_network(host)))
        self.open += 1
        return seat

    def is_of(self, seat: Seat, host: str, port: int) -> None:
        """The header has come and names the client. Raises NoSeat; the seat is still to be left then."""
        self._release(seat)
        seat.host, seat.port = host, port
        self._count(seat, ("client", client_network(host)))

    def is_of_balancer(self, seat: Seat) -> None:
        """The header has come and names nobody: the address is that of many clients, and has no limit."""
        self._release(seat)

    def leave(self, seat: Seat) -> None:
        """The connection is closed."""
        self._release(seat)
        self.open -= 1

    def _count(self, seat: Seat, key: _Key) -> None:
        if self._taken[key] >= self._limits[key[0]]:
            raise NoSeat(in_all=False)
        self._taken[key] += 1
        seat.counted_as = key

    def _release(self, seat: Seat) -> None:
        key, seat.counted_as = seat.counted_as, None
        if key is not None:
            self._taken[key] -= 1
            if not self._taken[key]:
                del self._taken[key]

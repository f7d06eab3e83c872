"""Audit facts of CFSSL."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from kipuka_core import Event


@dataclass(frozen=True, slots=True, kw_only=True)
class CfsslFailed(Event):
    """CFSSL did not do what it was asked for; ``reason`` is what it or the network said."""

    name: ClassVar[str] = "cfssl_failed"

    ca_id: str

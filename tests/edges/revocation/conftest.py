"""An HTTP server for CRLs and OCSP answers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kipuka_core.edges.revocation import trouble
from tests.edges.revocation.revocation_kit import Site, http_site


@pytest.fixture
def site() -> Iterator[Site]:
    with http_site() as running:
        yield running


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is logged of sources, however other tests have set up logging."""
    lines: list[str] = []

    class Lines:
        def warning(self, event: str, **fields: object) -> None:
            lines.append(f"{event} {fields}")

        info = error = warning

    monkeypatch.setattr(trouble, "log", Lines())
    return lines

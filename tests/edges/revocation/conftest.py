"""An HTTP server for CRLs and OCSP answers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.edges.revocation.revocation_kit import Site, http_site


@pytest.fixture
def site() -> Iterator[Site]:
    with http_site() as running:
        yield running

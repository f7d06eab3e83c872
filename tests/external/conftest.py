"""The upstream that does as it is told."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.external.est_kit import ToldUpstream, told_upstream


@pytest.fixture
def upstream(tmp_path: Path) -> Iterator[ToldUpstream]:
    with told_upstream(tmp_path) as running:
        yield running

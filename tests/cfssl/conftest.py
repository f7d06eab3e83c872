"""CFSSL, and kipuka's backend before it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cfssl.cfssl_server import Cfssl, make_cfssl, running_cfssl


@pytest.fixture
def cfssl(tmp_path: Path) -> Iterator[Cfssl]:
    with running_cfssl(make_cfssl(tmp_path / "cfssl")) as running:
        yield running

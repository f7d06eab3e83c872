"""One pebble for all tests of a file that only need some CA, and what stands before it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.acme.acme_kit import ALWAYS_VALID
from tests.acme.between import Between, between
from tests.acme.pebble import Pebble, running_pebble


@pytest.fixture(scope="module")
def pebble(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pebble]:
    """Believes every name without looking."""
    with running_pebble(tmp_path_factory.mktemp("pebble"), environment=ALWAYS_VALID) as pebble:
        yield pebble


@pytest.fixture(scope="module")
def looking_pebble(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pebble]:
    """Validates, by a DNS server in which every name is 127.0.0.1."""
    with running_pebble(tmp_path_factory.mktemp("looking"), with_dns=True) as pebble:
        yield pebble


@pytest.fixture
def misbehaving(pebble: Pebble) -> Iterator[Between]:
    """Stands before ``pebble`` and misbehaves when told to."""
    with between(pebble) as found:
        yield found

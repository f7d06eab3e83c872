"""Nothing that published plugins use changes without a decision (docs/api-version.md)."""

from __future__ import annotations

import pytest

from kipuka_core.hooks import spec
from tests.api.listing import LISTINGS, committed, listing

_AGAIN = "then run `python -m tests.api.listing`"


@pytest.mark.parametrize("name", LISTINGS)
def test_nothing_that_a_plugin_may_use_has_gone_or_changed(name: str) -> None:
    gone = sorted(set(committed(name).read_text(encoding="utf-8").splitlines()) - set(listing(name)))
    assert gone == [], (
        f"published plugins may use these: bring them back, or raise API_VERSION as docs/api-version.md says, {_AGAIN}"
    )


@pytest.mark.parametrize("name", LISTINGS)
def test_whatever_is_new_has_been_decided(name: str) -> None:
    new = sorted(set(listing(name)) - set(committed(name).read_text(encoding="utf-8").splitlines()))
    assert new == [], (
        f"these stay as long as API version {spec.API_VERSION} is spoken: if you want that, tell CHANGELOG.md, {_AGAIN}"
    )


def test_every_name_is_listed_once() -> None:
    for name in LISTINGS:
        lines = listing(name)
        assert len(lines) == len(set(lines)) > 100
        assert not [line for line in lines if " at 0x" in line], "a line is the same in every process"


def test_there_is_a_listing_for_every_version_that_is_spoken() -> None:
    for version in range(spec.OLDEST_API_VERSION, spec.API_VERSION + 1):
        assert all(committed(name, version).exists() for name in LISTINGS)

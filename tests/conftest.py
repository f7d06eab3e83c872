"""What tests of several directories need."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.postgresql.cluster import Cluster


@pytest.fixture(scope="module")
def postgresql() -> Iterator[Cluster]:
    """A PostgreSQL of this module's own, for tests that leave it running."""
    from tests.postgresql.cluster import running_cluster  # noqa: PLC0415  its driver is needed by nobody else

    with running_cluster() as cluster:
        yield cluster

"""Programs that a test started end with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.edges.serving.supervised import Program


@pytest.fixture
def program() -> Iterator[Callable[[str], Program]]:
    running: list[Program] = []

    def start(source: str) -> Program:
        running.append(Program(source))
        return running[-1]

    yield start
    for one in running:
        one.process.kill()
        one.process.wait()
        one.output.close()

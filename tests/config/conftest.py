"""Small configurations, parsed without a file."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from kipuka_core.config import Config, ConfigurationErrors, parse
from kipuka_core.errors import ConfigurationError

FILE = Path("/conf/kipuka.toml")
MINIMAL = """
[tls]
cert = "server.pem"
key = "server.key"
[tls.client_auth]
trust_anchors = "cas.pem"
"""


def _merged(base: dict[str, object], more: dict[str, object]) -> dict[str, object]:
    both = dict(base)
    for key, value in more.items():
        mine = both.get(key)
        both[key] = _merged(mine, value) if isinstance(mine, dict) and isinstance(value, dict) else value
    return both


@pytest.fixture
def config_of() -> Callable[[str], Config]:
    """A configuration from the least that is needed and the given TOML on top."""

    def build(toml: str = "") -> Config:
        return parse(_merged(tomllib.loads(MINIMAL), tomllib.loads(toml)), FILE)

    return build


@pytest.fixture
def problems_of(config_of: Callable[[str], Config]) -> Callable[[str], list[str]]:
    """The lines of the error that the given TOML on top of the least that is needed gives."""

    def read(toml: str) -> list[str]:
        with pytest.raises(ConfigurationError) as caught:
            config_of(toml)
        error = caught.value
        assert error.__cause__ is None
        assert error.__context__ is None, "the chained error would show the input"
        errors = error.errors if isinstance(error, ConfigurationErrors) else (error,)
        assert str(error).splitlines() == [str(one) for one in errors]
        return [str(one) for one in errors]

    return read

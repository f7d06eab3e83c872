"""The plugin alone: kipuka's contract suite, and which of several pairs it serves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import kipuka_tls_directory as plugin
import pytest

from kipuka_core import ConfigurationError
from kipuka_core.testing.contracts.settings import check_settings
from kipuka_core.testing.contracts.tls_material import TlsMaterialContract
from kipuka_core.testing.pki import Leaf, make_key, make_root
from kipuka_core.testing.services import make_services

CA = make_root().subordinate()
START = datetime.now(UTC) - timedelta(days=10)


def issue(days_later: float = 0, *, days: int = 90, key_type: str = "ecdsa256") -> Leaf:
    return CA.leaf(
        "est", ("dns:localhost",), not_before=START + timedelta(days=days_later), days=days, key_type=key_type
    )


def drop(directory: Path, name: str, leaf: Leaf) -> None:
    """What the other program does."""
    (directory / f"{name}.key").write_bytes(leaf.key_pem)
    (directory / f"{name}.pem").write_bytes(leaf.chain_pem)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    path = tmp_path / "tls.d"
    path.mkdir()
    drop(path, "first", issue())
    return path


@pytest.fixture
def material(directory: Path, tmp_path: Path) -> plugin.TlsDirectory:
    return plugin.TlsDirectory(plugin.DirectorySettings(path=directory), make_services(tmp_path))


class TestContract(TlsMaterialContract):
    (provider,) = plugin.kipuka_tls_material()

    @pytest.fixture
    def settings(self, directory: Path) -> Mapping[str, Any]:
        return {"path": directory}

    @pytest.fixture
    def renew(self, directory: Path) -> Callable[[], None]:
        number = count(1)
        return lambda: drop(directory, "renewed", issue(next(number) / 10))

    @pytest.fixture
    def make_due(self, renew: Callable[[], None]) -> Callable[[], None]:
        return renew

    @pytest.fixture
    def break_it(self, directory: Path) -> Callable[[], None]:
        return (directory / "first.pem").unlink


def served(material: plugin.TlsDirectory) -> str:
    return Path(asyncio.run(material.server_identity()).certificate_file).name


def test_its_settings_are_described() -> None:
    check_settings(plugin.DirectorySettings, {"path": "tls.d"})


def test_the_pair_that_was_issued_last_serves(material: plugin.TlsDirectory, directory: Path) -> None:
    drop(directory, "a-newer", issue(1))
    drop(directory, "z-older", issue(-1))
    assert served(material) == "a-newer.pem"


def test_what_is_half_written_mixed_up_or_not_valid_is_passed_over(
    material: plugin.TlsDirectory, directory: Path
) -> None:
    newer = issue(1, key_type="rsa2048")
    (directory / "without-key.pem").write_bytes(newer.chain_pem)
    (directory / "without-certificate.key").write_bytes(newer.key_pem)
    drop(directory, "half", newer)
    (directory / "half.pem").write_bytes(newer.chain_pem[:300])
    drop(directory, "mixed-up", Leaf(newer.certificate, make_key("rsa2048")))
    drop(directory, "over", issue(1, days=3))
    drop(directory, "future", issue(20))
    assert served(material) == "first.pem"
    assert not asyncio.run(material.upkeep())
    drop(directory, "half", newer)
    assert asyncio.run(material.upkeep())
    assert served(material) == "half.pem"


@pytest.mark.parametrize("what", ["*.pem", "*.key"])
def test_an_empty_directory_is_an_error_that_names_it(
    material: plugin.TlsDirectory, directory: Path, what: str
) -> None:
    for file in directory.glob(what):
        file.unlink()
    with pytest.raises(ConfigurationError, match=r"tls\.d: holds no NAME\.pem with its NAME\.key"):
        served(material)

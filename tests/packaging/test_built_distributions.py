"""Wheels and sdists: what is in them, and that they work where nothing else of this repository is."""

from __future__ import annotations

import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.hsm.softhsm import make_softhsm
from tests.interop.development import development_server
from tests.interop.programs import run
from tests.packaging.example import EXAMPLES, ROOT, Example

pytestmark = pytest.mark.interop

_PLUGINS = tuple(ROOT / "plugins" / name for name in ("kipuka-acme", "kipuka-cfssl", "kipuka-hsm", "kipuka-vault"))
_SOURCES = (ROOT, *_PLUGINS, *(example.source for example in EXAMPLES))
_INSTALL_SECONDS = 600


@dataclass(frozen=True, slots=True)
class Built:
    """The wheel and the sdist of one distribution, and the wheel that was built from the sdist."""

    wheel: Path
    sdist: Path
    wheel_of_sdist: Path


def _build(source: Path, directory: Path) -> Built:
    def build(what: str, *options: str) -> None:
        run(sys.executable, "-m", "build", *options, "--outdir", directory / what, source, seconds=_INSTALL_SECONDS)

    build("tree", "--wheel")
    build("both")
    (wheel,) = (directory / "tree").glob("*.whl")
    (wheel_of_sdist,) = (directory / "both").glob("*.whl")
    (sdist,) = (directory / "both").glob("*.tar.gz")
    return Built(wheel, sdist, wheel_of_sdist)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, Built]:
    return {source: _build(source, tmp_path_factory.mktemp(source.name)) for source in _SOURCES}


@pytest.fixture(scope="module")
def installed(built: dict[Path, Built], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The programs of an environment that holds the wheels and what they depend on."""
    environment = tmp_path_factory.mktemp("environment")
    run(sys.executable, "-m", "venv", environment)
    wheels = [each.wheel for each in built.values()]
    run(environment / "bin" / "pip", "install", "--quiet", *wheels, seconds=_INSTALL_SECONDS)
    return lambda program: environment / "bin" / program


def _contents(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_the_wheel_holds_the_packages_and_nothing_of_tests(built: dict[Path, Built]) -> None:
    names = set(_contents(built[ROOT].wheel))

    top_level = {name.partition("/")[0] for name in names}
    assert {name for name in top_level if not name.endswith(".dist-info")} == {"kipuka_core", "kipuka_builtin"}
    in_tree = {
        str(path.relative_to(base))
        for base, package in ((ROOT, "kipuka_core"), (ROOT / "plugins", "kipuka_builtin"))
        for path in (base / package).rglob("*.py")
    }
    assert {name for name in names if name.endswith(".py")} == in_tree
    assert {"kipuka_core/py.typed", "kipuka_builtin/py.typed"} <= names
    templates = (ROOT / "kipuka_core" / "cli" / "plugin_new" / "templates").rglob("*.tmpl")
    assert {name for name in names if name.endswith(".tmpl")} == {str(path.relative_to(ROOT)) for path in templates}
    assert any(name.startswith("kipuka_core/edges/store/migrations/versions/0001") for name in names)
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)
    assert not [name for name in names if "tests/" in name or Path(name).name.startswith("test_")]


@pytest.mark.parametrize("source", _PLUGINS, ids=lambda source: source.name)
def test_the_wheel_of_a_sister_holds_its_package_and_its_licence(source: Path, built: dict[Path, Built]) -> None:
    names = set(_contents(built[source].wheel))
    package = source.name.replace("-", "_")

    assert {name for name in names if name.endswith(".py")} == {
        str(path.relative_to(source)) for path in (source / package).rglob("*.py")
    }
    assert f"{package}/py.typed" in names
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)
    assert (source / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()


@pytest.mark.parametrize("source", _SOURCES, ids=lambda source: source.name)
def test_the_sdist_builds_the_wheel_that_the_tree_builds(source: Path, built: dict[Path, Built]) -> None:
    assert _contents(built[source].wheel) == _contents(built[source].wheel_of_sdist)


def test_the_sdist_holds_the_sources_and_no_development_state(built: dict[Path, Built]) -> None:
    with tarfile.open(built[ROOT].sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}

    assert {"LICENSE", "README.md", "pyproject.toml", "kipuka_core/__init__.py"} <= names
    assert not [name for name in names if name.startswith(("tests/", "kipuka-dev/", ".venv/", ".git/"))]


def test_what_is_installed_is_the_wheel(installed: Callable[[str], Path], tmp_path: Path) -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        version = tomllib.load(file)["project"]["version"]

    where = run(installed("python"), "-c", "import kipuka_core; print(kipuka_core.__file__)", cwd=tmp_path).stdout

    assert Path(where.decode().strip()).is_relative_to(installed("python").parents[1])
    assert version in run(installed("kipuka"), "--version", cwd=tmp_path).stdout.decode()


def test_the_installed_kipuka_serves_and_enrols_as_its_own_lines_say(
    installed: Callable[[str], Path], tmp_path: Path
) -> None:
    with development_server(tmp_path, (str(installed("kipuka")),)) as server:
        server.paste()


def test_the_installed_kipuka_hsm_makes_a_key_in_a_token(installed: Callable[[str], Path], tmp_path: Path) -> None:
    hsm = make_softhsm(tmp_path / "hsm")
    toml = tmp_path / "kipuka.toml"
    toml.write_text(
        f'[plugins]\nenable = ["hsm"]\n[hsm]\npin_file = "{hsm.pin_file}"\n[server]\nstate_dir = "state"\n'
        '[tls]\nmaterial = "self"\n[tls.client_auth]\nmode = "none"\n'
    )
    environment = hsm.environment | {"KIPUKA_CONFIG": str(toml)}

    run(installed("kipuka"), "hsm", "generate", "pkcs11:token=kipuka;object=issuing", env=environment)

    assert b"issuing" in run(installed("kipuka"), "hsm", "keys", env=environment).stdout


def test_the_installed_plugins_bring_their_ca_backends(installed: Callable[[str], Path], tmp_path: Path) -> None:
    code = (
        "from kipuka_core.hooks.manager import load_plugins;"
        "print(*sorted(load_plugins(['cfssl', 'vault']).providers['ca_backend']))"
    )

    assert {b"cfssl", b"vault"} <= set(run(installed("python"), "-c", code, cwd=tmp_path).stdout.split())


def test_the_installed_kipuka_acme_says_what_a_ca_lacks(installed: Callable[[str], Path], tmp_path: Path) -> None:
    """Without a CA to ask: it is loaded, and looks at its settings."""
    (tmp_path / "state").mkdir(mode=0o700)
    toml = tmp_path / "kipuka.toml"
    toml.write_text(
        '[plugins]\nenable = ["acme"]\n[server]\nstate_dir = "state"\n'
        '[tls]\nmaterial = "self"\n[tls.client_auth]\nmode = "none"\n'
        '[[ca]]\nid = "public"\nbackend = "acme"\ndirectory = "https://acme.example/directory"\nchain = "none.pem"\n'
    )

    done = run(installed("kipuka"), "check", env={"KIPUKA_CONFIG": str(toml)}, check=False)

    assert done.returncode != 0
    assert b"ca.public.chain: " in done.stdout + done.stderr


@pytest.mark.parametrize("example", EXAMPLES, ids=str)
def test_an_installed_example_does_what_its_readme_says(
    example: Example, installed: Callable[[str], Path], tmp_path: Path
) -> None:
    example.check_the_story(installed("python"), tmp_path)

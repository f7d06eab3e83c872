"""What the command writes and prints, and that it writes nothing over what is there."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from kipuka_core.cli import cli
from kipuka_core.cli.plugin_new import write
from kipuka_core.errors import ConfigurationError
from tests.plugin_new.made import kipuka

FILES = {
    ".github/workflows/test.yml",
    ".gitignore",
    "README.md",
    "kipuka_plant/__init__.py",
    "kipuka_plant/py.typed",
    "pyproject.toml",
    "tests/conftest.py",
    "tests/test_plant.py",
    "tests/test_server.py",
}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def new(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["plugin", "new", *arguments], prog_name="kipuka")


def tree(directory: Path) -> dict[str, bytes | None]:
    """Everything below a directory."""
    return {
        str(path.relative_to(directory)): path.read_bytes() if path.is_file() else None for path in directory.rglob("*")
    }


def test_it_makes_the_directory_and_prints_what_to_type_next(here: Path) -> None:
    done = new("plant", "--kind", "policy")
    assert done.exit_code == 0
    assert done.stdout == (
        "made kipuka-plant: a policy, 'plant' in kipuka.toml. Next:\n\n"
        "  cd kipuka-plant\n"
        "  pip install -e '.[test]'\n"
        "  pytest\n\n"
        "Then change what is marked CHANGE in kipuka_plant/__init__.py; README.md says how to enable it.\n"
    )
    assert {path for path, content in tree(here / "kipuka-plant").items() if content is not None} == FILES
    assert [path.name for path in here.iterdir()] == ["kipuka-plant"]


def test_its_permissions_are_the_usual_ones(here: Path) -> None:
    new("plant", "--kind", "policy")
    umask = os.umask(0)
    os.umask(umask)
    assert (here / "kipuka-plant").stat().st_mode & 0o777 == 0o777 & ~umask
    assert (here / "kipuka-plant" / "README.md").stat().st_mode & 0o777 == 0o666 & ~umask


def test_the_directory_may_have_another_name(here: Path) -> None:
    done = new("plant", "--kind", "policy", "--directory", "my plugins")
    assert "  cd 'my plugins'\n" in done.stdout
    assert (here / "my plugins" / "pyproject.toml").exists()


def test_an_empty_directory_is_filled(here: Path) -> None:
    (here / "kipuka-plant").mkdir()
    assert new("plant", "--kind", "policy").exit_code == 0
    assert (here / "kipuka-plant" / "pyproject.toml").exists()


def _a_file_in_it(target: Path) -> None:
    target.mkdir()
    (target / "notes.txt").write_text("mine")


def _a_hidden_file_in_it(target: Path) -> None:
    (target / ".git").mkdir(parents=True)


def _a_link(target: Path) -> None:
    (target.parent / "elsewhere").mkdir()
    target.symlink_to("elsewhere")


def _a_dangling_link(target: Path) -> None:
    target.symlink_to("nowhere")


@pytest.mark.parametrize(
    ("prepare", "problem"),
    [
        (_a_file_in_it, "kipuka-plant: is there already and not empty; nothing is overwritten"),
        (_a_hidden_file_in_it, "kipuka-plant: is there already and not empty"),
        (Path.touch, "kipuka-plant: is there already, and is no directory"),
        (_a_link, "kipuka-plant: is there already, and is no directory"),
        (_a_dangling_link, "kipuka-plant: is there already, and is no directory"),
    ],
)
def test_what_is_there_stays(here: Path, prepare: Callable[[Path], None], problem: str) -> None:
    prepare(here / "kipuka-plant")
    before = tree(here)
    done = kipuka("plugin", "new", "plant", "--kind", "policy", cwd=here, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"kipuka: error: {problem}")
    assert tree(here) == before


def test_twice_is_once(here: Path) -> None:
    new("plant", "--kind", "policy")
    before = tree(here)
    assert isinstance(new("plant", "--kind", "events").exception, ConfigurationError)
    assert tree(here) == before


def test_a_directory_above_that_is_missing_is_said(here: Path) -> None:
    done = new("plant", "--kind", "policy", "--directory", "missing/plant")
    assert str(done.exception) == "missing: there is no such directory; make it first"
    assert tree(here) == {}


@pytest.mark.parametrize("directory", [".", "../empty"])
def test_nobody_is_left_in_a_directory_that_is_gone(
    here: Path, monkeypatch: pytest.MonkeyPatch, directory: str
) -> None:
    (here / "empty").mkdir()
    monkeypatch.chdir(here / "empty")
    done = new("plant", "--kind", "policy", "--directory", directory)
    assert "is the directory that you are in; go to the one above it first" in str(done.exception)
    assert tree(here) == {"empty": None}


class _FullDisk:
    """Texts whose writing fails at the second one."""

    def items(self) -> Iterator[tuple[str, str]]:
        yield "README.md", "text"
        raise OSError(28, "No space left on device")


def test_half_of_it_is_none_of_it(here: Path) -> None:
    with pytest.raises(ConfigurationError, match="kipuka-plant: cannot be made: No space left on device"):
        write.write_directory(Path("kipuka-plant"), _FullDisk())  # type: ignore[arg-type]
    assert tree(here) == {}


class _SomebodyElse:
    """Texts during whose writing somebody else makes the same directory."""

    def items(self) -> Iterator[tuple[str, str]]:
        yield "README.md", "ours"
        Path("kipuka-plant").mkdir()
        Path("kipuka-plant/README.md").write_text("theirs")


def test_what_has_come_to_be_there_meanwhile_stays(here: Path) -> None:
    with pytest.raises(ConfigurationError, match="kipuka-plant: cannot be made: Directory not empty"):
        write.write_directory(Path("kipuka-plant"), _SomebodyElse())  # type: ignore[arg-type]
    assert tree(here) == {"kipuka-plant": None, "kipuka-plant/README.md": b"theirs"}


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("Plant", "--kind", "policy"), '"Plant": write lower-case letters'),
        (("names", "--kind", "policy"), "kipuka brings a policy 'names'; take another name"),
        (("plant",), "Missing option '--kind'"),
        (
            ("plant", "--kind", "polcy"),
            "'polcy' is not one of 'auth', 'policy', 'ca', 'keys', 'tls', 'events', 'command'",
        ),
    ],
)
def test_a_wrong_command_line_is_exit_code_2_and_makes_nothing(
    here: Path, arguments: tuple[str, ...], problem: str
) -> None:
    done = new(*arguments)
    assert done.exit_code == 2
    assert problem in done.stderr
    assert tree(here) == {}

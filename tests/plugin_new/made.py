"""A plugin as ``kipuka plugin new`` makes it, and an environment of its own to install it into, without an index."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from kipuka_core.cli.plugin_new.kinds import KINDS

KIND_WORDS = tuple(KINDS)
_SECONDS = 300


def kipuka(*arguments: str, cwd: Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    """The command, as somebody types it in a directory."""
    return run(sys.executable, "-m", "kipuka_core.cli", *arguments, cwd=cwd, check=check)


def run(*command: str | Path, cwd: Path, check: bool = True, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a program; what it has printed is in the error when it fails."""
    words = [str(word) for word in command]
    env = {**os.environ, **environment}
    done = subprocess.run(words, cwd=cwd, env=env, capture_output=True, text=True, check=False, timeout=_SECONDS)
    assert not check or done.returncode == 0, f"{words} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
    return done


@dataclass(frozen=True, slots=True)
class Made:
    """The distribution that the command has made."""

    name: str
    directory: Path

    @property
    def package(self) -> str:
        """Its package."""
        return f"kipuka_{self.name.replace('-', '_')}"

    def text(self, path: str) -> str:
        """One of its files."""
        return (self.directory / path).read_text(encoding="utf-8")

    def block(self, language: str) -> str:
        """The code block of its readme with the lines that a newcomer copies; empty where there is none."""
        section = self.text("README.md").partition("## Set it up")[2].partition("## Test")[0]
        return section.partition(f"```{language}\n")[2].partition("```")[0]


def make(kind: str, name: str, directory: Path) -> Made:
    """Have one made in a directory."""
    kipuka("plugin", "new", name, "--kind", kind, cwd=directory)
    return Made(name, directory / f"kipuka-{name}")


@dataclass(frozen=True, slots=True)
class Environment:
    """A fresh virtual environment that sees what this one has installed, kipuka among it."""

    directory: Path

    @property
    def python(self) -> Path:
        """Its Python."""
        return self.directory / "bin" / "python"

    @property
    def site_packages(self) -> Path:
        """What is installed into it."""
        return Path(sysconfig.get_path("purelib", vars={"base": str(self.directory)}))

    def install(self, made: Made) -> None:
        """What the command tells to type, but that nothing is fetched and a wheel is built and installed."""
        options = ("--quiet", "--no-index", "--no-deps", "--no-build-isolation", "--disable-pip-version-check")
        run(self.python, "-m", "pip", "install", *options, made.directory, cwd=made.directory)


def make_environment(directory: Path) -> Environment:
    """Make it; pip is that of this environment too."""
    run(sys.executable, "-m", "venv", "--without-pip", directory, cwd=directory.parent)
    environment = Environment(directory)
    # addsitedir, unlike a plain path, also reads the .pth files there: kipuka is installed as editable.
    others = f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n"
    (environment.site_packages / "others.pth").write_text(others, encoding="utf-8")
    return environment

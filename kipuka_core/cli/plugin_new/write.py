"""A directory with files in it, made whole or not at all, and never over something that is there."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path

from kipuka_core.errors import ConfigurationError


def write_directory(directory: Path, contents: Mapping[str, str]) -> None:
    """Make ``directory``, with these texts by their paths in it; it may be there already if it is empty.

    Everything is written beside it and then renamed. Raises ConfigurationError, and has changed nothing then.
    """
    refuse_occupied(directory)
    beside = directory.absolute().with_name(f".{directory.absolute().name}.{secrets.token_hex(4)}")
    try:
        for path, text in contents.items():
            file = beside / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
        beside.rename(directory)  # fails where something has come to be there since
    except OSError as error:
        raise ConfigurationError(str(directory), f"cannot be made: {error.strerror}") from None
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def refuse_occupied(directory: Path) -> None:
    """Raise ConfigurationError unless this is an empty directory, or nothing in a directory."""
    try:
        if not os.path.lexists(directory):
            if not directory.absolute().parent.is_dir():
                raise ConfigurationError(str(directory.parent), "there is no such directory; make it first")
        elif directory.is_symlink() or not directory.is_dir():
            raise ConfigurationError(str(directory), "is there already, and is no directory")
        elif any(directory.iterdir()):
            raise ConfigurationError(
                str(directory), "is there already and not empty; nothing is overwritten: name another --directory"
            )
        elif directory.samefile(Path.cwd()):  # renaming over it would leave the shell in a directory that is gone
            raise ConfigurationError(str(directory), "is the directory that you are in; go to the one above it first")
    except OSError as error:
        raise ConfigurationError(str(directory), f"cannot be looked at: {error.strerror}") from None

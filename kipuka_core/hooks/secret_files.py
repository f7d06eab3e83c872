"""Files that hold secrets: looked at for who else may read them, and read with errors of one line."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from kipuka_core.errors import ConfigurationError
from kipuka_core.hooks.provider import Services

GROUP_AND_OTHERS = 0o077
OTHERS = 0o007


def shown(path: Path | str) -> str:
    """A path as it stands in a message of one line."""
    text = str(path)
    return text if text.isprintable() else ascii(text)


def unreadable(path: Path, error: OSError | ValueError) -> ConfigurationError:
    """The error for a file that the operating system does not give."""
    why = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else "not a possible file name"
    return ConfigurationError(shown(path), f"cannot be read: {why}")


def read_file(path: Path) -> bytes:
    """The content of a file; raises ConfigurationError when it cannot be read."""
    try:
        return path.read_bytes()
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from None


def permission_problem(path: Path, *, barred: int = GROUP_AND_OTHERS) -> str | None:
    """What is wrong with a file that more people than its owner can use, and what to run; None: nothing.

    Raises ConfigurationError when there is no such file.
    """
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from None
    if not mode & barred:
        return None
    return f"mode {mode:04o} lets others use it; run: chmod {mode & ~barred:04o} {shown(path)}"


def check_permissions(path: Path, services: Services, *, barred: int = GROUP_AND_OTHERS) -> None:
    """Warn of a file that more people than its owner can use, or refuse it with ``strict_permissions``.

    ``barred`` are the permission bits that nobody should have. Raises ConfigurationError also when there is no such
    file.
    """
    problem = permission_problem(path, barred=barred)
    if problem is None:
        return
    if services.strict_permissions:
        raise ConfigurationError(shown(path), problem)
    services.warn(f"{shown(path)}: {problem}")


def read_secret_file(path: Path, services: Services) -> bytes:
    """The content of a file that only its owner should be able to read.

    Others who can read it are a warning, or with ``[server] strict_permissions`` an error. Raises ConfigurationError,
    in one line without anything of the content.
    """
    check_permissions(path, services)
    return read_file(path)

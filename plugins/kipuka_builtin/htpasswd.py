"""The users file of ``[auth.basic]``: ``name:hash`` lines as ``htpasswd -B`` writes them."""

from __future__ import annotations

import re
from pathlib import Path

from kipuka_core import ConfigurationError
from kipuka_core.hooks.secret_files import read_file, shown
from kipuka_core.model.entity_id import entity_id_problem

Fingerprint = tuple[int, int, int] | None
"""Modification time (ns), size and inode; None where there is no file."""

_GOOD_HASHES = (
    re.compile(r"\$2[aby]\$(0[4-9]|[12][0-9]|3[01])\$[./A-Za-z0-9]{53}"),
    re.compile(r"\$argon2(id|i|d)\$v=\d+\$m=\d+,t=\d+,p=\d+\$[A-Za-z0-9+/]{11,}\$[A-Za-z0-9+/]{16,}", re.ASCII),
)
_WEAK_HASHES = (
    (re.compile(r"\$apr1\$|\$1\$"), "an MD5 hash"),
    (re.compile(r"\{SHA\}"), "an unsalted SHA-1 hash"),
    (re.compile(r"\$5\$|\$6\$|\$y\$|[./A-Za-z0-9]{13}$"), "a crypt(3) hash"),
    (re.compile(r"\$2|\$argon2"), "a damaged bcrypt or argon2 hash"),
)


def file_fingerprint(path: Path) -> Fingerprint:
    """What changes when the file is written or replaced."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def read_users(path: Path) -> dict[str, str]:
    """User names and their hashes. Empty lines and lines that begin with ``#`` are passed over.

    Raises ConfigurationError with file and line number, and without the line, for everything else.
    """
    try:
        text = read_file(path).decode()
    except UnicodeDecodeError:
        raise ConfigurationError(shown(path), "is not UTF-8 text") from None
    users: dict[str, str] = {}
    for number, raw_line in enumerate(text.split("\n"), start=1):
        line = raw_line.strip()
        if not line or line.startswith("#"):
            continue
        name, colon, stored_hash = line.partition(":")
        problem = _name_problem(name, users) if colon else "is not of the form name:hash"
        problem = problem or _hash_problem(stored_hash)
        if problem:
            raise ConfigurationError(f"{shown(path)} line {number}", problem)
        users[name] = stored_hash
    return users


def _name_problem(name: str, users: dict[str, str]) -> str | None:
    if name in users:
        return "the user is there twice"
    problem = entity_id_problem(name)
    return f"this user name cannot be used: {problem}" if problem else None


def _hash_problem(stored_hash: str) -> str | None:
    if any(pattern.fullmatch(stored_hash) for pattern in _GOOD_HASHES):
        return None
    kind = next((kind for pattern, kind in _WEAK_HASHES if pattern.match(stored_hash)), "not a password hash")
    return f"{kind}; only bcrypt and argon2 are taken: write the line with htpasswd -B"

"""The file of a backup: a tar archive, gzip, whose first member says what is in it."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from kipuka_core.errors import KipukaError

FORMAT = 1
_MANIFEST = "manifest.json"
_MAX_MANIFEST_BYTES = 16 * 1024 * 1024
_BLOCK_BYTES = 1 << 20
DATABASE, CONFIGURATION = "database.sqlite", "kipuka.toml"
STATE, BESIDE = "state", "beside"
"""Directories: the state directory, and what kipuka.toml names beside itself."""


class BundleUnusable(KipukaError):
    """No backup, a damaged one, or one of a newer kipuka; the text says which."""


@dataclass(frozen=True, slots=True)
class Source:
    """A file to be put in, under a name with slashes."""

    name: str
    path: Path


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a backup says of itself."""

    kipuka: str
    made_at: str
    schema: str
    counts: Mapping[str, int]
    newest: Mapping[str, int]
    files: Mapping[str, Mapping[str, Any]]
    """By name: ``sha256``, ``size`` and ``mode``."""


def write_bundle(target: IO[bytes], sources: Sequence[Source], about: Mapping[str, Any]) -> int:
    """Write a backup; how many files are in it. Raises OSError."""
    files = {source.name: _facts(source.path) for source in sources}
    manifest = json.dumps({"format": FORMAT, **about, "files": files}, indent=1).encode()
    with tarfile.open(fileobj=target, mode="w|gz", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(_member(_MANIFEST, len(manifest)), io.BytesIO(manifest))
        for source in sources:
            with source.path.open("rb") as file:
                archive.addfile(_member(source.name, files[source.name]["size"]), file)
    return len(files)


@contextmanager
def opened_bundle(source: IO[bytes]) -> Iterator[tuple[Manifest, tarfile.TarFile]]:
    """A backup and what it says of itself. Raises BundleUnusable."""
    try:
        with tarfile.open(fileobj=source, mode="r|gz") as archive:
            first = archive.next()
            if first is None or first.name != _MANIFEST or first.size > _MAX_MANIFEST_BYTES:
                raise BundleUnusable("is no backup that kipuka made: it does not begin with its manifest")
            yield _manifest(archive.extractfile(first)), archive
    except (tarfile.TarError, EOFError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise BundleUnusable(f"is no backup, or a part of one: {error}") from None


def unpack(manifest: Manifest, archive: tarfile.TarFile, directory: Path) -> None:
    """Write every file below a directory, and compare it with the manifest. Raises BundleUnusable, OSError."""
    missing = dict(manifest.files)
    while (member := archive.next()) is not None:  # iterating would begin with the manifest again
        facts = missing.pop(member.name, None)
        if facts is None or not member.isreg() or not is_safe_name(member.name):
            raise BundleUnusable(f"holds {member.name!r}, which its manifest does not name")
        content = archive.extractfile(member)
        if content is None or _copy(content, directory / member.name) != facts["sha256"]:
            raise BundleUnusable(f"is damaged: {member.name} is not what was backed up")
    if missing:
        raise BundleUnusable(f"is cut off: {next(iter(missing))} is missing")


def is_safe_name(name: str) -> bool:
    """Whether a name stays below the directory that it is put into, and is in its plain form."""
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts and str(path) == name and "\0" not in name


def _manifest(file: IO[bytes] | None) -> Manifest:
    try:
        fields = json.loads(file.read() if file else b"")
        if fields["format"] != FORMAT:
            raise BundleUnusable(f"has format {fields['format']}, and this kipuka knows {FORMAT}: use the newer kipuka")
        return Manifest(**{name: fields[name] for name in Manifest.__dataclass_fields__})
    except (ValueError, KeyError, TypeError):
        raise BundleUnusable("has a manifest that cannot be read") from None


def _facts(path: Path) -> dict[str, Any]:
    digest = hashlib.sha256()
    size = 0
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
            size += len(block)
    return {"sha256": digest.hexdigest(), "size": size, "mode": path.stat().st_mode & 0o777}


def _member(name: str, size: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size, member.mode = size, 0o600
    return member


def _copy(content: IO[bytes], target: Path) -> str:
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    digest = hashlib.sha256()
    with target.open("xb") as file:
        target.chmod(0o600)
        while block := content.read(_BLOCK_BYTES):
            digest.update(block)
            file.write(block)
    return digest.hexdigest()

"""Who can read and write what belongs to the server."""

from __future__ import annotations

import grp
import os
import pwd
import stat
from collections.abc import Iterable
from pathlib import Path

from kipuka_core.cli.doctor.files import ConfiguredFile, Kind, configured_files
from kipuka_core.cli.doctor.finding import Section
from kipuka_core.config import Config
from kipuka_core.edges.serving.control import SOCKET_NAME
from kipuka_core.model.audit_chain import KEY_FILE

_BARRED = {Kind.SECRET: 0o077, Kind.USERS: 0o007}
_SQLITE = "sqlite:///"


def permissions(config: Config) -> Section:
    """Keys, password files, configuration, database and the directories above them."""
    section = Section("Permissions")
    files = configured_files(config)
    state_dir = config.server.state_dir
    owner = _owner(state_dir)
    section.fact("state_dir", f"{state_dir}, {_described(state_dir)}")
    for file in files:
        if file.kind in _BARRED:
            _secret(section, file, strict=config.server.strict_permissions, owner=owner)
        else:
            _unwritable(section, file.path)
    section.fact("configuration", f"{config.path}, {_described(config.path)}")
    _unwritable(section, config.path)
    _configuration_with_password(section, config)
    _state(section, config)
    _directories(section, [config.path, state_dir / SOCKET_NAME, *(file.path for file in files)])
    return section


def _secret(section: Section, file: ConfiguredFile, *, strict: bool, owner: int | None) -> None:
    try:
        status = file.path.stat()
    except OSError as error:
        section.error(
            f"{file.toml_path}: {file.path}: {(error.strerror or 'cannot be seen').lower()}",
            "put the file there, or name another one in kipuka.toml; if it is there, run this as root",
            said_as=str(file.path),
        )
        return
    mode = stat.S_IMODE(status.st_mode)
    section.fact(file.toml_path, f"{file.path}, {_described(file.path)}")
    barred = _BARRED[file.kind]
    if mode & barred:
        tell = section.error if strict or mode & 0o022 else section.warning
        tell(
            f"{file.path} ({file.toml_path}): mode {mode:04o} lets others use it",
            f"chmod {mode & ~barred:04o} {file.path}",
            said_as=f"{file.path}: mode {mode:04o} lets others use it",
        )
    if owner is not None and status.st_uid not in {0, owner}:
        section.warning(
            f"{file.path} ({file.toml_path}) belongs to {_user(status.st_uid)}, who is neither root nor the server",
            f"chown {_user(owner)} {file.path}",
        )
    if owner and not _can_read(status, owner):
        section.error(
            f"{file.path} ({file.toml_path}) cannot be read by {_user(owner)}, to whom state_dir belongs",
            f"chown {_user(owner)} {file.path}",
        )


def _unwritable(section: Section, path: Path) -> None:
    """Whoever writes the configuration or a trust anchor is an administrator."""
    mode = _mode(path)
    if mode is not None and mode & 0o022:
        section.error(f"{path}: mode {mode:04o} lets others change it", f"chmod {mode & ~0o022:04o} {path}")


def _configuration_with_password(section: Section, config: Config) -> None:
    address = config.database_url.partition("://")[2].partition("/")[0]
    mode = _mode(config.path)
    if mode is not None and mode & 0o007 and ":" in address.rpartition("@")[0]:
        section.warning(
            f"{config.path}: mode {mode:04o} lets others read the database's password in db.url",
            f"chmod {mode & ~0o007:04o} {config.path}",
        )


def _state(section: Section, config: Config) -> None:
    """The database, the audit trail and its key, unless their directory keeps others out."""
    state_dir = config.server.state_dir
    files = [state_dir / "audit.jsonl", state_dir / KEY_FILE]
    if config.database_url.startswith(_SQLITE):
        files.insert(0, Path(config.database_url.removeprefix(_SQLITE)))
    for path in files:
        mode, above = _mode(path), _mode(path.parent)
        if mode is None or above is None:
            continue
        section.fact(path.name, f"{path}, {_described(path)}")
        if mode & 0o022:
            section.error(f"{path}: mode {mode:04o} lets others change it", f"chmod {mode & ~0o077:04o} {path}")
        elif mode & 0o004 and above & 0o001:
            section.warning(
                f"{path}: others can read it (mode {mode:04o}, in a directory with mode {above:04o})",
                f"chmod 0700 {path.parent}",
            )


def _directories(section: Section, paths: Iterable[Path]) -> None:
    """A file is as safe as the least safe directory above it; in a sticky one nobody replaces others' files."""
    above = dict.fromkeys(directory for path in paths for directory in path.parents)
    for directory in above:
        mode = _mode(directory)
        if mode is not None and mode & 0o022 and not mode & stat.S_ISVTX:
            tell = section.error if mode & 0o002 else section.warning
            tell(
                f"{directory}: mode {mode:04o} lets others put other files in the place of the server's",
                f"chmod {mode & ~0o022:04o} {directory}",
            )


def _mode(path: Path) -> int | None:
    try:
        return stat.S_IMODE(path.stat().st_mode)
    except OSError:
        return None


def _owner(path: Path) -> int | None:
    try:
        return path.stat().st_uid
    except OSError:
        return None


def _can_read(status: os.stat_result, uid: int) -> bool:
    if status.st_uid == uid:
        return bool(status.st_mode & stat.S_IRUSR)
    try:
        user = pwd.getpwuid(uid)
        groups = os.getgrouplist(user.pw_name, user.pw_gid)
    except (KeyError, OSError):
        groups = []
    return bool(status.st_mode & (stat.S_IRGRP if status.st_gid in groups else stat.S_IROTH))


def _described(path: Path) -> str:
    try:
        status = path.stat()
    except OSError as error:
        return (error.strerror or "cannot be seen").lower()
    return f"{stat.S_IMODE(status.st_mode):04o} {_user(status.st_uid)}:{_group(status.st_gid)}"


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _group(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)

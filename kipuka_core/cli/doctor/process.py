"""The server as a process: does it run, as whom, with how many files, and on how full a disk."""

from __future__ import annotations

import os
import re
import resource
import shutil
from dataclasses import dataclass
from pathlib import Path

from kipuka_core.cli.doctor.finding import Section
from kipuka_core.config import Config
from kipuka_core.edges.serving.control import ControlUnavailable, server_process
from kipuka_core.serve import ROOT_REMEDY

_FILES_BESIDE_CONNECTIONS = 128
_LEAST_FREE_BYTES = 100 * 2**20
_WANTED_FREE_BYTES = 2**30
_LEAST_FREE_INODES = 1000
_OPEN_FILES = re.compile(r"^Max open files +(\w+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class ServerState:
    """A server as seen from outside; ``pid`` None: it does not run, or cannot be seen."""

    pid: int | None
    uid: int | None
    is_served: bool | None


def look_for_server(config: Config) -> ServerState:
    """Ask the control socket."""
    try:
        found = server_process(config.server.state_dir)
    except ControlUnavailable:
        return ServerState(None, None, None)
    return ServerState(None, None, False) if found is None else ServerState(*found, True)


def process(config: Config, state: ServerState, *, own_uid: int | None = None) -> Section:
    """Who the server runs as, and its limit of open files. ``own_uid`` is who asks (default: this process's user)."""
    section = Section("Server")
    running = {True: f"process {state.pid}, user id {state.uid}", False: "not running", None: "cannot be seen"}
    section.fact("server", running[state.is_served])
    _root(section, config, state, os.geteuid() if own_uid is None else own_uid)
    _open_files(section, config.server.max_connections, state.pid)
    return section


def _root(section: Section, config: Config, state: ServerState, own_uid: int) -> None:
    if state.uid is not None:
        if state.uid == 0:
            section.warning("the server runs as root", ROOT_REMEDY)
        return
    try:
        is_roots = config.server.state_dir.stat().st_uid == 0
    except OSError:
        is_roots = own_uid == 0
    if is_roots and own_uid == 0:
        section.warning(f"{config.server.state_dir} is for a server that runs as root", ROOT_REMEDY)


def _open_files(section: Section, max_connections: int, pid: int | None) -> None:
    limit = _limit_of(pid) if pid is not None else None
    whose = "the server's" if limit is not None else "this shell's"
    if limit is None:
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    is_endless = limit == resource.RLIM_INFINITY
    section.fact("open files", f"{'unlimited' if is_endless else limit} ({whose} limit)")
    needed = max_connections + _FILES_BESIDE_CONNECTIONS
    if not is_endless and limit < needed:
        section.warning(
            f"{whose} limit of {limit} open files is less than max_connections = {max_connections} needs",
            f"LimitNOFILE={needed} in the unit (ulimit -n {needed}), or a smaller max_connections",
        )


def _limit_of(pid: int) -> int | None:
    try:
        match = _OPEN_FILES.search(Path(f"/proc/{pid}/limits").read_text(encoding="ascii"))
    except OSError:
        return None
    if match is None:
        return None
    return resource.RLIM_INFINITY if match[1] == "unlimited" else int(match[1])


def disk(config: Config) -> Section:
    """Room for the database and the audit trail, without which nothing is issued."""
    section = Section("Disk")
    state_dir = config.server.state_dir
    if not state_dir.is_dir():
        section.error(
            f"server.state_dir: {state_dir} is not there", "kipuka init makes one; or change server.state_dir"
        )
    place = next(each for each in (state_dir, *state_dir.parents) if each.is_dir())
    try:
        free_bytes, inodes = shutil.disk_usage(place).free, os.statvfs(place)
    except OSError as error:
        section.error(f"{place} cannot be looked at: {error.strerror}", "run kipuka doctor as the server's user")
        return section
    judge_room(section, place, free_bytes, inodes.f_favail if inodes.f_files else None)
    return section


def judge_room(section: Section, place: Path, free_bytes: int, free_inodes: int | None) -> None:
    """Whether so much is enough; ``free_inodes`` None: this file system does not count them."""
    section.fact("free", f"{free_bytes / 2**30:.1f} GiB at {place}")
    remedy = "make room, or move state_dir; watch audit.jsonl, and let logrotate move it away"
    if free_bytes < _LEAST_FREE_BYTES or (free_inodes is not None and free_inodes < _LEAST_FREE_INODES):
        section.error(f"the disk of {place} is full or nearly so: what cannot be recorded is not issued", remedy)
    elif free_bytes < _WANTED_FREE_BYTES:
        section.warning(f"the disk of {place} has less than 1 GiB left", remedy)

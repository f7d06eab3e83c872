"""One check after the other; whatever is broken is a finding."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from pathlib import Path

from kipuka_core.cli.check import warnings_of
from kipuka_core.cli.common import run
from kipuka_core.cli.doctor.certificates import certificates, remedy_for
from kipuka_core.cli.doctor.finding import Section, without_repetitions
from kipuka_core.cli.doctor.listeners import offers, ports
from kipuka_core.cli.doctor.machine import clock, exporter, fips, kernel_clock_is_synchronised, versions
from kipuka_core.cli.doctor.permissions import permissions
from kipuka_core.cli.doctor.process import disk, look_for_server, process
from kipuka_core.config import Config, load
from kipuka_core.errors import ConfigurationError, KipukaError


def examine(path: Path | None, environ: Mapping[str, str], now: datetime) -> list[Section]:
    """Everything that can be looked at, also of a deployment that is broken."""
    sections = [_safely(title, check) for title, check in _of_machine()]
    config, reading = _read(path, environ)
    sections.append(reading)
    if config is None:
        sections.append(_safely("Clock", lambda: clock((), now=now, is_synchronised=kernel_clock_is_synchronised)))
    else:
        sections += [_safely(title, check) for title, check in _of_deployment(config, now)]
    return without_repetitions(sections)


def _of_machine() -> Iterator[tuple[str, Callable[[], Section]]]:
    yield "Versions", versions
    yield "FIPS 140", fips
    yield "Channel binding", exporter


def _of_deployment(config: Config, now: datetime) -> Iterator[tuple[str, Callable[[], Section]]]:
    state_dir = config.server.state_dir
    written = (config.path, state_dir / "kipuka.db", state_dir / "audit.jsonl")
    state = look_for_server(config)
    yield "Clock", lambda: clock(written, now=now, is_synchronised=kernel_clock_is_synchronised)
    yield "Certificates", lambda: certificates(config, now)
    yield "Permissions", lambda: permissions(config)
    yield "Listeners", lambda: offers(config)
    yield "Server", lambda: process(config, state)
    yield "Ports", lambda: ports(config, is_served=state.is_served)
    yield "Disk", lambda: disk(config)
    yield "Check", lambda: whole_check(config)


def _read(path: Path | None, environ: Mapping[str, str]) -> tuple[Config | None, Section]:
    section = Section("Configuration")
    try:
        config = load(path, environ)
    except KipukaError as error:
        for line in str(error).splitlines():
            section.error(line, "correct that line of kipuka.toml; docs/configuration.md describes every key")
        return None, section
    section.fact("file", config.path)
    return config, section


def whole_check(config: Config) -> Section:
    """What ``kipuka check`` says, which opens everything as the server does."""
    section = Section("Check")
    try:
        warnings = run(warnings_of(config))
    except ConfigurationError as error:
        section.fact("kipuka check", "does not pass")
        section.error(str(error), remedy_for(error))
        return section
    except KipukaError as error:
        section.fact("kipuka check", "does not pass")
        section.error(str(error), "correct it, and run kipuka check")
        return section
    section.fact("kipuka check", "passes")
    for line in warnings:
        section.warning(line, "change what this line begins with, or leave it if this is meant")
    return section


def _safely(title: str, check: Callable[[], Section]) -> Section:
    try:
        return check()
    except PermissionError as error:
        section = Section(title)
        section.error(
            f"{error.filename} cannot be seen by this user", "run kipuka doctor as the server's user, or as root"
        )
        return section
    except Exception as error:  # noqa: BLE001  # the other checks still have something to say
        section = Section(title)
        section.error(
            f"this check itself failed: {type(error).__name__}", "report it, with the version of kipuka and of Python"
        )
        return section

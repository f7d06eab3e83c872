"""Opening what a plugin brings, in a dry run, and asking it what changes nothing."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from pydantic import BaseModel, ValidationError

from kipuka_core.assemble import Assembly
from kipuka_core.cli.plugins.configured import tables_for
from kipuka_core.cli.plugins.host import check_routes, host
from kipuka_core.cli.plugins.subject import Subject, about
from kipuka_core.config import ConfigurationErrors, validate_table
from kipuka_core.domain.guard import Guard
from kipuka_core.errors import ConfigurationError, KipukaError
from kipuka_core.hooks.listing import header_of, own_table
from kipuka_core.hooks.manager import BUILTIN, ProviderEntry
from kipuka_core.hooks.provider import Services
from kipuka_core.model.event import Event
from kipuka_core.quick_contracts import Finding, Trial

_FOR_A_CA = {"ca_backend": {"id": "check"}}


# -- how it works --------------------------------------------------------------------------------------------------
async def open_all(subject: Subject) -> None:
    """Open every provider as the configuration says, or with its defaults, in a dry run."""
    where = subject.config.path if subject.config else "a fresh configuration"
    enables = _enables(subject)
    subject.step(f"opening {where} in a dry run{', with this plugin enabled' if enables else ''}")
    try:
        async with host(subject.config, subject.name if enables else BUILTIN) as assembly:
            for entry in subject.entries:
                for trial in _trials(subject, entry, assembly):
                    await trial
            if enables:
                await _try_routes(subject, assembly)
    except KipukaError as error:
        advice = "put that right first; kipuka check says the same once the plugin is enabled"
        for each in _one_by_one(error):
            subject.report(Finding.problem(f"{where} does not open: {each}", advice))


def _enables(subject: Subject) -> bool:
    """Whether it is tried as a part of the whole; a plugin that lacks settings of its own would be an error there."""
    enabled = subject.config is not None and subject.name in subject.config.plugins.enable
    if enabled or not subject.lacks_own_settings or any(map(subject.places, subject.entries)):
        return True
    what = f"it was not enabled for this: [{own_table(subject.name)}] would have to be there"
    subject.report(Finding.note(what, "add what is said below, and check again"))
    return False


async def _try_routes(subject: Subject, assembly: Assembly) -> None:
    if not subject.plugins.admin_routes:
        return
    subject.step("adding its admin routes")
    try:
        await check_routes(assembly)
    except ConfigurationError as error:
        subject.report(Finding.problem(str(error), "choose another name or path for the blueprint"))
    else:
        subject.report(Finding.ok("the paths of its admin routes are free"))


def _trials(subject: Subject, entry: ProviderEntry, assembly: Assembly) -> Iterator[Awaitable[None]]:
    more = _FOR_A_CA.get(entry.kind, {})
    tables = tables_for(subject.config, entry.kind, entry.provider.name)
    for table in tables:
        own = {"id": table.name} if more else {}
        try:
            settings = validate_table(
                entry.provider.settings,
                {**table.settings, **own},
                table.toml_path,
                base_dir=assembly.config.base_dir,
            )
        except ConfigurationError as error:
            for each in _one_by_one(error):
                subject.report(Finding.problem(str(each), f"change [{table.toml_path}]"))
            continue
        yield _trial(subject, entry, settings, assembly.services, table.toml_path).run()
    if not tables:
        yield _with_defaults(subject, entry, more, assembly)


async def _with_defaults(subject: Subject, entry: ProviderEntry, more: dict[str, str], assembly: Assembly) -> None:
    try:
        settings = entry.provider.settings.model_validate(more)
    except ValidationError:
        fields = entry.provider.settings.model_fields
        required = ", ".join(key for key, field in fields.items() if field.is_required())
        what = f"{about(entry)} was not opened: {required or 'some keys'} would have to be set"
        header = header_of(entry.kind, entry.provider.name)
        subject.report(Finding.note(what, f"name a configuration with {header}: -c FILE"))
        return
    with TemporaryDirectory(prefix="kipuka-") as name:
        directory = Path(name)
        services = replace(assembly.services, base_dir=directory, state_dir=directory)
        await _trial(subject, entry, settings, services, header_of(entry.kind, entry.provider.name)).run()
        left = sorted(os.listdir(directory))  # noqa: PTH208  # one entry or none, and nothing else to do meanwhile
    if left:
        what = f"{about(entry)} made {', '.join(left)} in the state directory in a dry run"
        subject.report(Finding.problem(what, "write nothing in open() where services.dry_run is set"))


def _trial(subject: Subject, entry: ProviderEntry, settings: BaseModel, services: Services, where: str) -> Trial:
    used_as = "" if where == header_of(entry.kind, entry.provider.name) else f" ({where})"

    def warn(warning: str) -> None:
        subject.report(Finding.note(f"{about(entry)} warns: {warning}"))

    return Trial(
        kind=entry.kind,
        provider=entry.provider,
        settings=settings,
        services=replace(services, emit=_unheard, warn=warn),
        where=where,
        about=f"{about(entry)}{used_as}",
        report=subject.report,
        step=subject.step,
        guard=Guard(services.call_timeout_seconds),
    )


def _one_by_one(error: KipukaError) -> Sequence[KipukaError]:
    return error.errors if isinstance(error, ConfigurationErrors) else (error,)


async def _unheard(_event: Event) -> None:
    """Nobody listens."""

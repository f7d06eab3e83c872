"""``kipuka doctor``: what a deployment stands on, what it offers, and what to do about what is wrong."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from kipuka_core.cli.common import config_option, now
from kipuka_core.cli.doctor.finding import Level, Section

_WIDTH = 31


@click.command()
@config_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for programs.")
def doctor(config_path: Path | None, as_json: bool) -> None:
    """Examine the machine and the deployment, and say what to do about each finding.

    It works where `kipuka check` stops: whatever is broken is one finding among others. Run it as the server's user or
    as root. The exit code is 1 when there are errors, and 0 for warnings and notes alone.
    """
    from kipuka_core.cli.doctor.examine import examine  # noqa: PLC0415  # the whole server: not for --help

    sections = examine(config_path, os.environ, now())
    if as_json:
        click.echo(json.dumps(_as_json(sections), indent=2, ensure_ascii=False))
    else:
        _print(sections)
    sys.exit(any(each.level is Level.ERROR for section in sections for each in section.findings))


def _as_json(sections: Sequence[Section]) -> dict[str, object]:
    return {
        "sections": [
            {"title": section.title, "facts": [{"name": name, "value": value} for name, value in section.facts]}
            for section in sections
        ],
        "findings": [
            {"section": section.title, "level": each.level, "what": each.what, "remedy": each.remedy}
            for section in sections
            for each in section.findings
        ],
    }


def _print(sections: Sequence[Section]) -> None:
    for section in sections:
        if not section.facts:
            continue
        click.echo(section.title)
        before = ""
        for name, value in section.facts:
            click.echo(f"  {'' if name == before else name:<{_WIDTH}}  {value}")
            before = name
    found = [each for section in sections for each in section.findings]
    click.echo("Findings" if found else "Nothing found")
    for level in Level:
        for each in found:
            if each.level is level:
                click.echo(f"{level}: {each.what}")
                click.echo(f"  do: {each.remedy}")

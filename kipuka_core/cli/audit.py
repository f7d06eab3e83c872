"""``kipuka audit``: the audit trail."""

from __future__ import annotations

import click

from kipuka_core.cli.audit_verify import verify_files


@click.group()
def audit() -> None:
    """Look at the audit trail."""


audit.add_command(verify_files)

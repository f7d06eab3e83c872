"""``kipuka tls``: server certificates, made and looked at."""

from __future__ import annotations

import click

from kipuka_core.cli.tls.make import csr, self_signed
from kipuka_core.cli.tls.show import show


@click.group()
def tls() -> None:
    """Make a server certificate, and see what the listeners serve."""


for _command in (show, csr, self_signed):
    tls.add_command(_command)

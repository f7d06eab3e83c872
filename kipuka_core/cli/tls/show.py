"""``kipuka tls show``: what each listener serves and whom it trusts, read from the files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from kipuka_core.cli.common import config_option, now, read_config, run
from kipuka_core.cli.tls.describe import anchor_facts, certificate_facts, chain_facts, offered_suites
from kipuka_core.config import Config

_WIDTH = 16
_STAND_IN = "(the next start has it issued)"


@click.command()
@config_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for programs.")
def show(config_path: Path | None, as_json: bool) -> None:
    """Show each listener's certificate, chain, versions, cipher suites, client authentication and trust anchors.

    The files are read as the server would read them; no server need run. Warnings are what `kipuka check` says of the
    certificates; notes are only worth knowing.
    """
    listeners = run(describe_listeners(read_config(config_path)))
    if as_json:
        click.echo(json.dumps({"listeners": listeners}, indent=2, ensure_ascii=False))
        return
    for index, listener in enumerate(listeners):
        if index:
            click.echo()
        for line in _lines(listener):
            click.echo(line)


async def describe_listeners(config: Config) -> list[dict[str, Any]]:
    """Both listeners. Raises ConfigurationError for whatever would stop the start."""
    from kipuka_core.cli.check import dry_assembly  # noqa: PLC0415  # the whole server: not for csr and self-signed
    from kipuka_core.listeners import admin_material, est_material  # noqa: PLC0415

    async with dry_assembly(config) as assembly:
        found = []
        for name, listen, read in (
            ("EST", config.server.listen, est_material),
            ("admin", config.server.admin_listen, admin_material),
        ):
            material = await read(assembly)
            moment = now()
            leaf, *above = material.chain.certificates
            remarks = material.chain.remarks(moment)
            found.append(
                {
                    "listener": name,
                    "listen": str(listen),
                    "certificate_file": _STAND_IN if material.chain.is_stand_in else material.chain.file,
                    "certificate": certificate_facts(leaf, moment),
                    "chain": chain_facts(above, moment),
                    "min_version": material.tls.min_version,
                    "cipher_suites": offered_suites(material.tls, leaf),
                    "client_auth": material.tls.client_auth,
                    "trust_anchors": anchor_facts(material.trust.listener, assembly.own_issuers, moment),
                    "warnings": [
                        *(str(each) for each in remarks if each.is_warning),
                        *material.suite_warnings(),
                        *material.anchor_warnings(moment),
                    ],
                    "notes": [str(each) for each in remarks if not each.is_warning],
                }
            )
        return found


def _lines(listener: dict[str, Any]) -> Iterator[str]:
    certificate = listener["certificate"]
    yield f"{listener['listener']} listener, {listener['listen']}"
    rows: list[tuple[str, str]] = [
        ("certificate", listener["certificate_file"]),
        ("  subject", certificate["subject"] or "(empty)"),
        ("  issuer", certificate["issuer"]),
        ("  serial", certificate["serial"]),
        ("  valid", f"{certificate['not_before']} to {_end(certificate)}"),
        ("  key", certificate["key"]),
        ("  names", ", ".join(certificate["names"]) or "(none)"),
        ("  key usage", ", ".join(certificate["key_usage"]) or "(none)"),
        ("  extended", ", ".join(map(_purpose, certificate["ext_key_usage"])) or "(none)"),
        ("  sha-256", certificate["sha256_fingerprint"]),
    ]
    rows += [("chain", f"{each['subject']}, until {_end(each)}") for each in listener["chain"]]
    rows.append(("min version", listener["min_version"]))
    for version, suites in listener["cipher_suites"].items():
        rows += [(f"TLS {version}", suite) for suite in suites]
    rows.append(("client auth", listener["client_auth"]))
    rows += [("trust anchor", _anchor(each)) for each in listener["trust_anchors"]]
    yield from _aligned(rows)
    for kind in ("warnings", "notes"):
        yield from (f"{kind.removesuffix('s')}: {line}" for line in listener[kind])


def _aligned(rows: list[tuple[str, str]]) -> Iterator[str]:
    """A name that is the same as in the row before is not said again."""
    before = ""
    for name, value in rows:
        yield f"  {'' if name == before else name:<{_WIDTH}}{value}"
        before = name


def _end(certificate: dict[str, Any]) -> str:
    return f"{certificate['not_after']} ({certificate['days_left']} days left)"


def _purpose(purpose: dict[str, str]) -> str:
    return f"{purpose['name']} ({purpose['oid']})" if purpose["name"] else purpose["oid"]


def _anchor(anchor: dict[str, Any]) -> str:
    return f"{anchor['subject']}, until {_end(anchor)}{', own CA' if anchor['own_ca'] else ''}"

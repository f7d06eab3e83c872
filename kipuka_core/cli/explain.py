"""``kipuka explain``: what would become of a CSR, and which policy says so."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import BinaryIO

import click
from cryptography import x509

from kipuka_core.assemble import Assembly
from kipuka_core.cli.check import dry_assembly
from kipuka_core.cli.common import config_option, moment, now, read_config, run
from kipuka_core.config import Config
from kipuka_core.domain.judge import Assessment
from kipuka_core.errors import KipukaError, RequestRefused
from kipuka_core.model.certificate import Template
from kipuka_core.model.enrolment import Enrolment
from kipuka_core.model.identity import ClientIdentity
from kipuka_core.model.key_type import describe_key, key_type_of
from kipuka_core.model.names import common_names, san_entry
from kipuka_core.model.request import Connection, Csr, Operation
from kipuka_core.model.verdict import Allow, Deny, Wait


@click.command()
@config_option
@click.argument("csr", type=click.File("rb"))
@click.option("--label", "label_name", default="", help="The label at which it would be sent (default: none).")
@click.option("--entity", help="The entity id that would be authenticated (default: the CSR's first CN).")
def explain(config_path: Path | None, csr: BinaryIO, label_name: str, entity: str | None) -> None:
    """Judge the CSR in a file (PEM, DER or base64; - for standard input) as simpleenroll would, and say why.

    The judging code is the server's own. Exit code 0: a certificate would be issued; 1: not.
    """
    body = csr.read()
    config = read_config(config_path)
    sys.exit(0 if run(_explain(config, body, label_name, entity)) else 1)


async def _explain(config: Config, body: bytes, label_name: str, entity: str | None) -> bool:
    async with dry_assembly(config) as assembly:
        if label_name not in assembly.labels:
            known = ", ".join(name for name in assembly.labels if name) or "none"
            raise KipukaError(f"there is no label {label_name!r} (known: {known})")
        try:
            enrolment = _enrolment(assembly, body, label_name, entity)
            _print_request(enrolment)
            assembly.road.reader.verify_possession(enrolment.csr)
            assessment = await assembly.road.assess(enrolment)
        except RequestRefused as refusal:
            click.echo(f"{'core rules':<12} refused: {refusal.reason}")
            return False
        return _print_assessment(assessment)


def _enrolment(assembly: Assembly, body: bytes, label_name: str, entity: str | None) -> Enrolment:
    csr = assembly.road.reader.decode(body)
    return Enrolment(
        request_id="explain",
        operation=Operation.SIMPLEENROLL,
        label=assembly.labels[label_name],
        identity=ClientIdentity(authenticator="explain", entity_id=entity or _first_name(csr)),
        csr=csr,
        connection=Connection(source_address="", tls_version=""),
        time=now(),
    )


def _first_name(csr: Csr) -> str:
    return next(iter(common_names(csr.subject)), "")


def _print_request(enrolment: Enrolment) -> None:
    csr, label = enrolment.csr, enrolment.label
    key = key_type_of(csr.public_key) or describe_key(csr.public_key)
    names = ", ".join(map(san_entry, csr.san or ())) or "no SubjectAltName"
    _line("request", f"simpleenroll at {label.name or 'the path without a label'}, CA {label.ca_id}")
    _line("identity", f"{enrolment.identity.entity_id!r} (assumed)")
    _line(
        "csr",
        f"{csr.subject.rfc4514_string() or 'empty subject'}; {names}; key {key}; signed with {csr.signature_hash}",
    )


def _print_assessment(assessment: Assessment) -> bool:
    for name, verdict in assessment.verdicts:
        match verdict:
            case Allow():
                _line(name, "allow")
            case Deny(kind, reason):
                _line(name, f"DENY ({kind}): {reason}")
            case Wait(reason):
                _line(name, f"WAIT: {reason}")
    try:
        outcome = assessment.outcome()
    except RequestRefused:
        _line("result", "refused")
        return False
    _line("result", "would wait, and then be" if isinstance(outcome, Wait) else "would be issued:")
    _print_template(assessment.template)
    return not isinstance(outcome, Wait)


def _print_template(template: Template) -> None:
    rows = {
        "subject": template.subject.rfc4514_string() or "(empty)",
        "names": ", ".join(map(san_entry, template.san)) or "(none)",
        "key usage": ", ".join(sorted(template.key_usage)),
        "extended": ", ".join(_eku(oid) for oid in template.ext_key_usage) or "(none)",
        "valid": f"{moment(template.not_before)} to {moment(template.not_after)} at the latest",
        "extensions": ", ".join(each.oid.dotted_string for each in template.extensions),
    }
    for name, value in rows.items():
        if value:
            _line(f"  {name}", value)


def _eku(oid: str) -> str:
    return x509.ObjectIdentifier(oid)._name  # noqa: SLF001  # cryptography's names for OIDs are not public


def _line(name: str, value: str) -> None:
    click.echo(f"{name:<12} {value}")

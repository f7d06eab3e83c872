"""Every certificate that the configuration names: until when, and what clients may dislike."""

from __future__ import annotations

from datetime import datetime

from cryptography import x509

from kipuka_core.cli.doctor.files import ConfiguredFile, Kind, configured_files
from kipuka_core.cli.doctor.finding import Section
from kipuka_core.config import Config
from kipuka_core.edges.tls.files import load_certificates
from kipuka_core.edges.tls.server_certificate import (
    RENEWAL_NOTICE,
    Surroundings,
    command_for_a_right_one,
    remarks_on_server_certificate,
)
from kipuka_core.errors import ConfigurationError

_SERVER = {"tls.cert": "server.listen", "admin.tls.cert": "server.admin_listen"}


def certificates(config: Config, now: datetime) -> Section:
    """Server certificates and chains, trust anchors, CAs."""
    section = Section("Certificates")
    read: dict[ConfiguredFile, tuple[x509.Certificate, ...]] = {}
    for file in configured_files(config):
        if file.kind is not Kind.CERTIFICATES:
            continue
        try:
            read[file] = load_certificates(str(file.path))
        except ConfigurationError as error:
            section.error(f"{file.toml_path}: {error}", remedy_for(error), said_as=str(file.path))
    known = [each for file, found in read.items() if file.toml_path not in _SERVER for each in found]
    for file, found in read.items():
        for certificate in found:
            _end(section, file, certificate, now)
        if file.toml_path in _SERVER:
            listen = config.server.listen if file.toml_path == "tls.cert" else config.server.admin_listen
            _remarks(section, file, found, now, Surroundings(known, (listen.host,)))
    return section


def remedy_for(error: ConfigurationError) -> str:
    """What to do about an error of a file or a setting."""
    problem = error.problem
    if "does not exist" in problem or "No such file" in problem:
        return "put the file there, or name another one in kipuka.toml"
    if "cannot be read" in problem and "by this user" in problem:
        return "give it to the server's user with chown, and chmod 0600 for keys, 0644 for certificates"
    return "correct it, and run kipuka check"


def _end(section: Section, file: ConfiguredFile, certificate: x509.Certificate, now: datetime) -> None:
    name = certificate.subject.rfc4514_string() or f"serial {certificate.serial_number:x}"
    until = certificate.not_valid_after_utc
    days = (until - now).days
    section.fact(file.toml_path, f"{name}, until {until:%Y-%m-%d %H:%M}Z ({days} days left)")
    where = f"{file.toml_path}: {name} in {file.path}"
    if file.toml_path in _SERVER or file.toml_path.endswith(".previous"):
        return  # the former have remarks of their own, the latter are of an earlier generation and allowed to end
    if now >= until:
        section.error(f"{where} ended on {until:%Y-%m-%d}", "renew or replace it", said_as=str(file.path))
    elif now < certificate.not_valid_before_utc:
        section.error(
            f"{where} is not valid before {certificate.not_valid_before_utc:%Y-%m-%d %H:%M}Z",
            "wait until then, or look at the clock of this machine and of the CA",
            said_as=str(file.path),
        )
    elif until - now < RENEWAL_NOTICE:
        section.warning(
            f"{where} ends on {until:%Y-%m-%d}",
            "renew or replace it now, then kipuka reload",
            said_as=f"{name} ends on {until:%Y-%m-%d}",
        )


def _remarks(
    section: Section,
    file: ConfiguredFile,
    found: tuple[x509.Certificate, ...],
    now: datetime,
    around: Surroundings,
) -> None:
    try:
        remarks = remarks_on_server_certificate(found[0], found[1:], now, str(file.path), around)
    except ConfigurationError as error:
        section.error(str(error), f"renew it: {_command(found[0])}", said_as=str(error))
        return
    for remark in remarks:
        tell = section.warning if remark.is_warning else section.note
        remedy = remark.remedy or "have it issued anew, or leave it if this is meant"
        tell(f"{file.path}: {remark.text}", remedy, said_as=remark.text)


def _command(leaf: x509.Certificate) -> str:
    try:
        return command_for_a_right_one(leaf)
    except ValueError:
        return "kipuka tls csr --host NAME"

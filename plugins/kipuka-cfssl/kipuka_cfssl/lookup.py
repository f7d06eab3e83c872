"""Whether a certificate with a serial number was issued: asked of CFSSL, or read in its database."""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import Protocol

from cryptography import x509

from kipuka_cfssl.api import CfsslApi, NoAnswerError, RefusedError
from kipuka_cfssl.info import certificate_of

_BUSY_SECONDS = 5.0


class Lookup(Protocol):
    """Finds certificates."""

    def __call__(self, serial: int, issuer: x509.Certificate, /) -> Awaitable[x509.Certificate | None]:
        """The certificate, or None where there is none. Raises CfsslError when that cannot be said now."""
        ...


def lookup_by_certinfo(api: CfsslApi) -> Lookup:
    """Asks ``certinfo``, which looks serial numbers up since CFSSL 1.4."""

    async def look(serial: int, issuer: x509.Certificate) -> x509.Certificate | None:
        question = {"serial": str(serial), "authority_key_id": _subject_key_id(issuer)}
        try:
            result = await api.ask("certinfo", question)
        except (RefusedError, NoAnswerError) as error:
            # a plain Go error, which CFSSL answers with status 500
            if "no certificate found" in str(error).lower():
                return None
            raise
        return certificate_of(result, "pem")

    return look


def lookup_in_database(file: Path, run_blocking: Callable[..., Awaitable[bytes | None]]) -> Lookup:
    """Reads the table ``certificates`` of an SQLite database."""

    async def look(serial: int, _issuer: x509.Certificate) -> x509.Certificate | None:
        try:
            pem = await run_blocking(_select, file, str(serial))
            return None if pem is None else x509.load_pem_x509_certificate(pem)
        except (sqlite3.Error, OSError, ValueError) as error:
            raise NoAnswerError(f"{file} cannot be read ({type(error).__name__}: {error})") from error

    return look


def authority_key_id(certificate: x509.Certificate) -> str:
    """The authority key identifier in a certificate, as CFSSL writes it; empty where there is none."""
    try:
        extension = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier)
    except x509.ExtensionNotFound:
        return ""
    return (extension.value.key_identifier or b"").hex()


def _subject_key_id(issuer: x509.Certificate) -> str:
    try:
        return issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest.hex()
    except x509.ExtensionNotFound:
        return ""


def _select(file: Path, serial: str) -> bytes | None:
    # CFSSL built with a newer Go (Debian's) leaves the column authority_key_identifier empty: it is not compared.
    with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True, timeout=_BUSY_SECONDS)) as database:
        rows = database.execute("SELECT pem FROM certificates WHERE serial_number = ?", (serial,)).fetchall()
    if len(rows) > 1:
        raise ValueError("several certificates have one serial number")
    if not rows:
        return None
    (pem,) = rows[0]
    return pem.encode() if isinstance(pem, str) else bytes(pem)

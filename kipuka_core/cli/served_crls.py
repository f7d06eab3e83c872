"""CRLs as the admin API of a running server has them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from cryptography import x509

from kipuka_core.cli.admin_access import AdminClient, AdminRefused
from kipuka_core.errors import KipukaError
from kipuka_core.model.fingerprints import issuer_key_id
from kipuka_core.model.status import CrlFacts

_NO_CRL = "no_crl"
"""The code of the answer for a CA whose CRLs are not made here."""


@dataclass(frozen=True, slots=True)
class ServedCrl:
    """What it says of itself, and the CRL."""

    facts: CrlFacts
    der: bytes


async def served_crls(admin: AdminClient, ca_id: str | None) -> list[ServedCrl]:
    """Of this CA, or of all that have one. Raises KipukaError."""
    if ca_id is not None:
        return [await served_crl(admin, ca_id)]
    found = []
    for ca in await admin.json("GET", "cas"):
        try:
            found.append(await served_crl(admin, ca["id"]))
        except AdminRefused as error:
            if error.code != _NO_CRL:
                raise
    return found


async def served_crl(admin: AdminClient, ca_id: str) -> ServedCrl:
    """Of this CA. Raises KipukaError, also for an answer that is no CRL of it."""
    der = (await admin.request("GET", f"cas/{ca_id}/crl")).content
    chain = (await admin.request("GET", f"cas/{ca_id}/chain")).content
    try:
        crl = x509.load_der_x509_crl(der)
        issuing = x509.load_pem_x509_certificates(chain)[0]
        number = crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
    except (ValueError, x509.ExtensionNotFound):
        raise KipukaError(f"the server answered for {ca_id} with something that is no CRL") from None
    facts = CrlFacts(
        issuer_key_id=issuer_key_id(issuing),
        ca_id=ca_id,
        number=number,
        this_update=crl.last_update_utc,
        next_update=crl.next_update_utc or datetime.max.replace(tzinfo=crl.last_update_utc.tzinfo),
        scheduled_at=crl.last_update_utc,
        entries=len(crl),
        changes=0,
    )
    return ServedCrl(facts, der)


async def default_ca_id(admin: AdminClient) -> str:
    """Which CA is meant where none is named."""
    return next(str(ca["id"]) for ca in await admin.json("GET", "cas") if ca["is_default"])

"""What CFSSL says of a profile and its CA (``info``)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from cryptography import x509

from kipuka_cfssl.api import CfsslApi, NoAnswerError
from kipuka_core import CaProfile

_KEY_USAGES = {
    "signing": "digitalSignature",
    "digital signature": "digitalSignature",
    "content commitment": "contentCommitment",
    "content committment": "contentCommitment",  # as older versions write it
    "key encipherment": "keyEncipherment",
    "key agreement": "keyAgreement",
    "data encipherment": "dataEncipherment",
    "cert sign": "keyCertSign",
    "crl sign": "cRLSign",
    "encipher only": "encipherOnly",
    "decipher only": "decipherOnly",
}
_EXT_KEY_USAGES = {
    "any": "2.5.29.37.0",
    "server auth": "1.3.6.1.5.5.7.3.1",
    "client auth": "1.3.6.1.5.5.7.3.2",
    "code signing": "1.3.6.1.5.5.7.3.3",
    "email protection": "1.3.6.1.5.5.7.3.4",
    "s/mime": "1.3.6.1.5.5.7.3.4",
    "ipsec end system": "1.3.6.1.5.5.7.3.5",
    "ipsec tunnel": "1.3.6.1.5.5.7.3.6",
    "ipsec user": "1.3.6.1.5.5.7.3.7",
    "timestamping": "1.3.6.1.5.5.7.3.8",
    "ocsp signing": "1.3.6.1.5.5.7.3.9",
    "microsoft sgc": "1.3.6.1.4.1.311.10.3.3",
    "netscape sgc": "2.16.840.1.113730.4.1",
}
_DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Info:
    """The CA's certificate, and what the profile puts into certificates."""

    issuing: x509.Certificate
    usages: Sequence[str]
    expiry: timedelta | None
    """None: CFSSL does not say it in hours, minutes and seconds."""

    def problems(self, declared: CaProfile) -> list[str]:
        """What the settings say differently, in words that name the setting."""
        found = []
        key_usage = frozenset(_KEY_USAGES[each] for each in self.usages if each in _KEY_USAGES)
        if key_usage != declared.key_usage:
            found.append(f"sets_key_usage: the profile sets {_listed(key_usage)}")
        ext_key_usage = {_EXT_KEY_USAGES[each] for each in self.usages if each in _EXT_KEY_USAGES}
        if ext_key_usage != set(declared.ext_key_usage or ()):
            found.append(f"sets_ext_key_usage: the profile sets {_listed(ext_key_usage)}")
        if self.expiry is not None and declared.validity is not None and self.expiry > declared.validity:
            found.append(f"sets_validity_days: the profile issues for {self.expiry / timedelta(days=1):g} days")
        return found


async def ask_info(api: CfsslApi, *, profile: str, label: str) -> Info:
    """Ask CFSSL. Raises a CfsslError."""
    result = await api.ask("info", {"label": label, "profile": profile})
    usages = result.get("usages") or ()
    if not isinstance(usages, list) or not all(isinstance(each, str) for each in usages):
        raise NoAnswerError("info: its usages are not a list of names")
    return Info(certificate_of(result, "certificate"), usages, _duration(result.get("expiry")))


def certificate_of(result: Mapping[str, Any], field: str) -> x509.Certificate:
    """The certificate in a field of an answer. Raises NoAnswerError where there is none."""
    text = result.get(field)
    try:
        return x509.load_pem_x509_certificate(text.encode() if isinstance(text, str) else b"")
    except ValueError as error:
        raise NoAnswerError(f"the answer's field {field} does not hold a certificate in PEM") from error


def _duration(text: object) -> timedelta | None:
    match = _DURATION.fullmatch(text) if isinstance(text, str) and text else None
    if match is None:
        return None
    hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return timedelta(hours=hours, minutes=minutes, seconds=seconds)


def _listed(values: frozenset[str] | set[str]) -> str:
    return "[" + ", ".join(f'"{each}"' for each in sorted(values)) + "]"

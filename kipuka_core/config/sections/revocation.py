"""``[revocation]``: what is found out about client certificates that kipuka did not issue itself."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from kipuka_core.config.section import Section
from kipuka_core.config.values import FilesOrUrls, HttpUrl, Switch
from kipuka_core.hooks.durations import Duration

RevocationCheck = Literal["none", "crl", "ocsp", "ocsp-then-crl"]


class Revocation(Section):
    """Client certificates that kipuka has no record of. Recorded ones are always checked in the store.

    Every certificate of the client's chain below its trust anchor is checked, on both listeners, and again whenever an
    answer has become too old. A certificate whose status cannot be found out is refused, unless `soft_fail` is set.
    """

    check: RevocationCheck = Field(
        default="none",
        description=(
            "`crl`: by CRLs. `ocsp`: by asking a responder. `ocsp-then-crl`: by CRLs where no responder can be asked "
            "or none gives a valid answer. `none`: not at all."
        ),
    )
    accept_unrecorded: Switch = Field(
        default=False,
        description="A certificate of an own CA without a record can be renewed although it is not checked.",
    )
    crls: FilesOrUrls = Field(
        default=(),
        description=(
            "CRLs, PEM or DER: files, read again on reload and when `cache_ttl` has passed, or URLs. Asked before "
            "those that the certificate itself names (CRL distribution points)."
        ),
        examples=[["/etc/kipuka/device-ca.crl", "http://crl.example/device-ca.crl"]],
    )
    responder: HttpUrl | None = Field(
        default=None,
        description="The OCSP responder for all certificates. Absent: the one that the certificate names (AIA).",
        examples=["http://ocsp.example"],
    )
    soft_fail: Switch = Field(
        default=False,
        description="A certificate whose status cannot be found out is accepted, and a warning is logged.",
    )
    cache_ttl: Duration = Field(
        default=300, description="The longest time that an answer is good for; its nextUpdate may end it earlier."
    )
    timeout: Duration = Field(default=10, description="For asking a responder or fetching a CRL.")

"""One ``[[ca]]`` table with ``backend = "cfssl"``."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address
from typing import Self
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from kipuka_cfssl.names import SUBJECT_ATTRIBUTES
from kipuka_core import CaProfile, CaProfileSettings, Duration

_DECIDED = ("sets_validity_days", "sets_key_usage", "sets_ext_key_usage")


class CfsslSettings(CaProfileSettings):
    """How CFSSL is reached, and what of it is used."""

    id: str | None = Field(default=None, description="The name of this CA; labels refer to it.")
    url: str = Field(
        description=(
            "Where CFSSL is, without `/api/v1/cfssl`: https, or http on this host; elsewhere http needs `allow_http`."
        ),
        examples=["https://cfssl.example:8888"],
    )
    allow_http: bool = Field(
        default=False, description="http to another host too: anybody on the way can see and change what CFSSL says."
    )
    trust_anchors: tuple[str, ...] = Field(
        default=(),
        description="PEM file or files with the CAs that CFSSL's TLS certificate is verified by. Absent: the system's.",
    )
    client_cert: str | None = Field(
        default=None,
        description="PEM file with the certificate that CFSSL's `-mutual-tls-ca` asks for, and its intermediates.",
    )
    client_key: str | None = Field(default=None, description="PEM file with the key of `client_cert`, not encrypted.")
    profile: str = Field(
        min_length=1,
        description=(
            "The signing profile. CFSSL takes its default profile, without a word, for one that it does not know."
        ),
        examples=["device"],
    )
    label: str = Field(default="", description="The label of the signer, for `multirootca`.")
    auth_key_file: str | None = Field(
        default=None, description="The file with the profile's authentication key in hexadecimal digits."
    )
    auth_key_env: str | None = Field(
        default=None, description="The environment variable with that key.", examples=["KIPUKA_CFSSL_KEY"]
    )
    cert: str | None = Field(
        default=None,
        description=(
            "PEM file with the certificate of CFSSL's CA; its issuers may follow. With it kipuka starts while CFSSL is "
            "away; absent: CFSSL is asked."
        ),
    )
    chain: tuple[str, ...] = Field(
        default=(),
        description="PEM file or files with the issuers of CFSSL's CA, up to and including the root: it tells none.",
    )
    previous: tuple[str, ...] = Field(
        default=(), description="PEM files with issuers of earlier generations and roll-over certificates."
    )
    revoke: bool = Field(
        default=False,
        description="CFSSL is told of revocations. It has to run with a certificate database (`-db-config`).",
    )
    client_serials: bool = Field(
        default=False,
        description=(
            "The profile has `ClientProvidesSerialNumbers`, and CFSSL a certificate database: kipuka chooses serial "
            "numbers by which it finds out what became of a request whose answer was lost."
        ),
    )
    certdb: str | None = Field(
        default=None,
        description=(
            "CFSSL's certificate database where it is an SQLite file on this host: certificates are looked up there, "
            "only reading. Absent: CFSSL is asked (`certinfo` by serial number, which 1.2.0, Debian's, cannot)."
        ),
        examples=["/var/lib/cfssl/certs.db"],
    )
    settle_after: Duration = Field(
        default=60,
        description=(
            "A certificate that is not found so long after it was asked for has not been issued; until then CFSSL may "
            "be at it yet."
        ),
    )
    timeout: Duration = Field(default=8, ge=1, description="For one answer of CFSSL. Shorter than `[plugins] timeout`.")

    @field_validator("trust_anchors", "chain", "previous", mode="before")
    @classmethod
    def _one_path_is_a_list_too(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value

    @field_validator("url")
    @classmethod
    def _only_a_base(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError("must be an http or https URL such as https://cfssl.example:8888")
        if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
            raise ValueError("must hold nothing but scheme, host, port and path")
        return value.rstrip("/")

    @model_validator(mode="after")
    def _transport_is_safe(self) -> Self:
        parts = urlsplit(self.url)
        if parts.scheme == "http" and not self.allow_http and not _is_this_host(parts.hostname or ""):
            raise ValueError("url is http to another host: use https, or set allow_http = true if nobody is on the way")
        if parts.scheme == "http" and (self.trust_anchors or self.client_cert):
            raise ValueError("trust_anchors and client_cert are for https; url is http")
        if (self.client_cert is None) != (self.client_key is None):
            raise ValueError("client_cert and client_key go together")
        return self

    @model_validator(mode="after")
    def _one_key(self) -> Self:
        if (self.auth_key_file is None) == (self.auth_key_env is None):
            raise ValueError("auth_key_file or auth_key_env has to say where the profile's key is; set one of them")
        return self

    @model_validator(mode="after")
    def _what_cfssl_always_decides(self) -> Self:
        missing = [name for name in _DECIDED if getattr(self, name) is None]
        if missing:
            raise ValueError(
                f"CFSSL's profile decides the validity and all key usages: declare them in {', '.join(missing)}"
            )
        return self

    @model_validator(mode="after")
    def _a_database_is_for_finding(self) -> Self:
        if self.certdb is not None and not self.client_serials:
            raise ValueError("certdb is of use with client_serials = true only")
        return self

    @field_validator("keeps_subject")
    @classmethod
    def _no_more_than_cfssl_keeps(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if beyond := set(value or ()) - set(SUBJECT_ATTRIBUTES):
            raise ValueError(f"CFSSL does not keep {', '.join(sorted(beyond))}")
        return value

    def ca_profile(self) -> CaProfile:
        """What is declared; of the subject, no more than CFSSL ever keeps."""
        declared = super().ca_profile()
        return declared if self.keeps_subject is not None else replace(declared, subject_attributes=SUBJECT_ATTRIBUTES)


def _is_this_host(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False

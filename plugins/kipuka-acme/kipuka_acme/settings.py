"""One ``[[ca]]`` table with ``backend = "acme"``."""

from __future__ import annotations

from typing import Self

from pydantic import Field, field_validator, model_validator

from kipuka_acme.shapes import HttpsUrl
from kipuka_core import CaProfileSettings, Duration


class AcmeSettings(CaProfileSettings):
    """Where the CA is, the account there, and how it is shown that the names are the operator's."""

    id: str | None = Field(default=None, description="The name of this CA; labels refer to it.")
    directory: HttpsUrl = Field(
        description="The URL of the CA's ACME directory.",
        examples=["https://acme-v02.api.letsencrypt.org/directory"],
    )
    chain: tuple[str, ...] = Field(
        min_length=1,
        description=(
            "PEM file or files, each with an issuing certificate of the CA and its issuers in order, up to and "
            "including the root. The first one is what `/cacerts` leads with; list every other one that the CA may "
            "issue under."
        ),
    )
    trust_anchors: tuple[str, ...] = Field(
        default=(),
        description="PEM files with the CAs that the directory's TLS server is verified with. Absent: the system's.",
    )
    contact: tuple[str, ...] = Field(
        default=(), description="URLs where the CA can reach you.", examples=[["mailto:pki@example.com"]]
    )
    agree_to_terms: bool = Field(
        default=False, description="You have read the CA's terms of service, and agree to them."
    )
    account_key: str | None = Field(
        default=None,
        description=(
            "PEM file with the account's key: EC P-256, P-384 or RSA. Absent: one is made at the first start and kept "
            "in `state_dir`."
        ),
    )
    eab_kid: str | None = Field(
        default=None,
        min_length=1,
        description="The key identifier of the external account binding, where the CA wants one.",
    )
    eab_key_file: str | None = Field(
        default=None, description="The file that holds its HMAC key, base64url-encoded, as CAs hand it out."
    )
    eab_key_env: str | None = Field(default=None, description="The environment variable that holds its HMAC key.")
    http_listen: str | None = Field(
        default=None,
        description=(
            "Answer http-01 challenges on this address and port. The CA asks port 80 of every name, so what arrives "
            "there has to end here."
        ),
        examples=["0.0.0.0:80"],
    )
    http_webroot: str | None = Field(
        default=None,
        description=(
            "Answer http-01 challenges by files below `.well-known/acme-challenge/` of this directory, which another "
            "server serves."
        ),
    )
    dns_hook: str | None = Field(
        default=None,
        description=(
            "Answer dns-01 challenges with this program. It is called with `present` or `cleanup`, the name of a TXT "
            "record, and the value to add or remove."
        ),
    )
    dns_wait: Duration | None = Field(
        default=None,
        description="How long after `present` the CA may look: until every name server knows. Absent: at once.",
    )
    profile: str | None = Field(
        default=None, min_length=1, description="The certificate profile to order, of those that the directory offers."
    )
    timeout: Duration = Field(default=4, description="For one exchange with the CA, and for one call of `dns_hook`.")

    @field_validator("chain", "trust_anchors", "contact", mode="before")
    @classmethod
    def _one_is_a_list_too(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value

    @field_validator("http_listen")
    @classmethod
    def _address_and_port(cls, value: str | None) -> str | None:
        if value is not None:
            host_and_port(value)
        return value

    @model_validator(mode="after")
    def _what_belongs_together(self) -> Self:
        if self.http_listen is not None and self.http_webroot is not None:
            raise ValueError("http_listen and http_webroot exclude each other: keep one")
        if self.eab_key_file is not None and self.eab_key_env is not None:
            raise ValueError("eab_key_file and eab_key_env exclude each other: keep one")
        has_key = self.eab_key_file is not None or self.eab_key_env is not None
        if has_key != (self.eab_kid is not None):
            raise ValueError("an external account binding needs eab_kid and one of eab_key_file and eab_key_env")
        return self


def host_and_port(address: str) -> tuple[str, int]:
    """``192.0.2.1:80`` or ``[2001:db8::1]:80`` in two. Raises ValueError."""
    host, colon, port = address.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not colon or not bare or (":" in bare) == (bare == host) or not port.isascii() or not port.isdigit():
        raise ValueError('must be an address and a port, such as "0.0.0.0:80" or "[::]:80"')
    if int(port) > 65535:
        raise ValueError("the port must be at most 65535")
    return bare, int(port)

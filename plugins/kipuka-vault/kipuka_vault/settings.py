"""One ``[[ca]]`` table with ``backend = "vault"``."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from kipuka_core import CaProfile, CaProfileSettings, Duration

_COMMON_NAME = "2.5.4.3"
_WORD = r"^\w[\w.-]*$"
_PATH = r"^\w[\w.-]*(/\w[\w.-]*)*$"
_BY_ROLE = ("sets_key_usage", "sets_ext_key_usage")


class VaultSettings(CaProfileSettings):
    """How Vault is reached, how kipuka logs in, and what signs."""

    id: str | None = Field(default=None, description="The name of this CA; labels refer to it.")
    url: str = Field(
        description="Where Vault is: https, or http on this host; elsewhere http needs `allow_http`.",
        examples=["https://vault.example:8200"],
    )
    allow_http: bool = Field(
        default=False, description="http to another host too: anybody on the way can see the token and use it."
    )
    trust_anchors: str | None = Field(
        default=None,
        description="PEM file with the CAs that Vault's TLS certificate is verified by. Absent: those of certifi.",
    )
    namespace: str | None = Field(default=None, description="The namespace, where Vault or OpenBao has them.")
    mount_point: str = Field(default="pki", pattern=_PATH, description="Where the PKI engine is mounted.")
    role: str | None = Field(
        default=None,
        pattern=_WORD,
        description=(
            "Certificates are signed with `sign/ROLE`: the role decides the key usages, and of the subject the common "
            "name stays. Absent: with `sign-verbatim`, which follows what kipuka approved."
        ),
        examples=["devices"],
    )
    auth: Literal["approle", "token", "cert"] = Field(description="How kipuka logs in.")
    auth_mount: str | None = Field(
        default=None, pattern=_PATH, description="Where that method is mounted. Absent: at its own name."
    )
    role_id: str | None = Field(default=None, description="The RoleID, for `approle`.")
    secret_id_file: str | None = Field(default=None, description="The file with the SecretID, for `approle`.")
    secret_id_env: str | None = Field(default=None, description="The environment variable with the SecretID.")
    token_file: str | None = Field(default=None, description="The file with the token, for `token`.")
    token_env: str | None = Field(
        default=None, description="The environment variable with the token.", examples=["VAULT_TOKEN"]
    )
    cert_role: str = Field(default="", description="The role of the `cert` method. Absent: Vault finds one that fits.")
    client_cert: str | None = Field(
        default=None, description="PEM file with the client certificate, for `cert`, and its intermediates."
    )
    client_key: str | None = Field(default=None, description="PEM file with its key, not encrypted.")
    chain: tuple[str, ...] = Field(
        default=(),
        description="PEM file or files with the issuers of the engine's CA that its `ca_chain` does not have.",
    )
    previous: tuple[str, ...] = Field(
        default=(), description="PEM files with issuers of earlier generations and roll-over certificates."
    )
    revoke: bool = Field(default=True, description="Vault is told of revocations; its policy has to allow `revoke`.")
    timeout: Duration = Field(default=8, ge=1, description="For one answer of Vault. Shorter than `[plugins] timeout`.")

    @field_validator("chain", "previous", mode="before")
    @classmethod
    def _one_path_is_a_list_too(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value

    @field_validator("url")
    @classmethod
    def _only_a_base(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError("must be an http or https URL such as https://vault.example:8200")
        if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
            raise ValueError("must hold nothing but scheme, host, port and path")
        return value.rstrip("/")

    @model_validator(mode="after")
    def _transport_is_safe(self) -> Self:
        parts = urlsplit(self.url)
        if parts.scheme == "http" and not self.allow_http and not _is_this_host(parts.hostname or ""):
            raise ValueError("url is http to another host: use https, or set allow_http = true if nobody is on the way")
        if parts.scheme == "http" and (self.trust_anchors or self.auth == "cert"):
            raise ValueError('trust_anchors and auth = "cert" are for https; url is http')
        return self

    @model_validator(mode="after")
    def _credentials_fit(self) -> Self:
        wanted = {
            "approle": (("role_id",), ("secret_id_file", "secret_id_env")),
            "token": (("token_file", "token_env"),),
            "cert": (("client_cert",), ("client_key",)),
        }
        for method, groups in wanted.items():
            for group in groups:
                given = [name for name in group if getattr(self, name) is not None]
                if method == self.auth and len(given) != 1:
                    raise ValueError(f'auth = "{method}" needs {" or ".join(group)}, one of them')
                if method != self.auth and given:
                    raise ValueError(f'{given[0]} is for auth = "{method}"; auth is "{self.auth}"')
        return self

    @model_validator(mode="after")
    def _what_a_role_decides(self) -> Self:
        missing = [name for name in _BY_ROLE if getattr(self, name) is None]
        if self.role is not None and missing:
            raise ValueError(f"a role decides the key usages: declare them in {', '.join(missing)}")
        return self

    def ca_profile(self) -> CaProfile:
        """What is declared; of the subject, no more than a role keeps."""
        declared = super().ca_profile()
        if self.role is None or self.keeps_subject is not None:
            return declared
        return replace(declared, subject_attributes=(_COMMON_NAME,))


def _is_this_host(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False

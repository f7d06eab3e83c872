"""``[server]``, ``[tls]`` and ``[admin]``: where kipuka listens, as whom, and to whom."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import ConfigDict, Field

from kipuka_core.config.section import OpenSection, Section
from kipuka_core.config.values import (
    Address,
    CipherSuite,
    Count,
    ListenAddress,
    NetworkList,
    PathList,
    ProviderName,
    SubjectName,
    Switch,
    TlsVersion,
)
from kipuka_core.hooks.durations import Duration
from kipuka_core.model.administrator import Role
from kipuka_core.model.cipher_suites import DEFAULT_CIPHER_SUITES

CipherSuites = Annotated[tuple[CipherSuite, ...], Field(min_length=1)]


class Server(Section):
    """Listeners, limits and the directory that belongs to the server."""

    listen: ListenAddress = Field(
        default=Address("0.0.0.0", 8443),  # noqa: S104  # an EST server is there for the devices around it
        description="Where EST is served; `[::]:8443` too.",
    )
    admin_listen: ListenAddress = Field(
        default=Address("127.0.0.1", 9443),
        description="Where the admin API is served, with TLS settings of its own. Never the same as `listen`.",
    )
    http_listen: ListenAddress | None = Field(
        default=None,
        description="Plain HTTP for CRLs, CA certificates and OCSP only. Never the same as the others.",
        examples=["0.0.0.0:8080"],
    )
    workers: Count = Field(
        default=1,
        description="Processes serving EST. The admin API is served by one process of its own.",
    )
    max_body_size: Count = Field(
        default=65536, description="Bytes of a request body, chunked or not; more is answered with 413."
    )
    max_connections: Count = Field(
        default=4096,
        description="Connections at once in each process; one beyond is closed at once and counted.",
    )
    max_connections_per_address: Count = Field(
        default=1024,
        description=(
            "Connections at once from one address, an IPv6 network of 64 bits being one, in each process; one beyond "
            "is closed at once and counted."
        ),
    )
    handshake_timeout: Duration = Field(
        default=10, description="For the TLS handshake, with the PROXY protocol header before it."
    )
    header_timeout: Duration = Field(
        default=10,
        description="For the head of a request: the first one from the handshake on, others from their first byte.",
    )
    body_timeout: Duration = Field(default=30, description="For the body of a request.")
    idle_timeout: Duration = Field(default=30, description="For the next request on an open connection.")
    shutdown_timeout: Duration = Field(default=30, description="For requests under way when the server is stopped.")
    state_dir: Path = Field(
        default=Path("/var/lib/kipuka"),
        description="Database, embedded CA, audit log. The environment variable `KIPUKA_STATE_DIR` overrides it.",
    )
    proxy_protocol_from: NetworkList = Field(
        default=(),
        description=(
            "Addresses and networks of load balancers in front of the EST listener: every connection from them begins "
            "with a PROXY protocol v2 header, which says who the client is; from anybody else such a header is refused."
        ),
        examples=[["192.0.2.10", "198.51.100.0/28"]],
    )
    strict_permissions: Switch = Field(
        default=False,
        description="A key or password file that others can read is an error instead of a warning.",
    )


class ClientAuthMode(StrEnum):
    """Whether a connection has to present a client certificate."""

    REQUIRED = "required"
    OPTIONAL = "optional"
    NONE = "none"


class ClientAuth(Section):
    """Client certificates on the EST listener (RFC 7030 3.3.2)."""

    mode: ClientAuthMode = Field(
        default=ClientAuthMode.OPTIONAL,
        description=(
            "`required`: every connection presents a certificate that chains, is in time and is not revoked, "
            "`/cacerts` included. `optional`: verified when presented, else another authenticator decides. "
            "`none`: not asked for; for development, and a warning says so."
        ),
    )
    trust_anchors: PathList = Field(
        default=(),
        description=(
            "PEM files, each with any number of certificates; every one is an anchor, so an issuing CA alone "
            "suffices. Required unless `mode` is `none`."
        ),
        examples=["/etc/kipuka/tls/device-cas.pem"],
    )
    trust_own_cas: Switch = Field(
        default=True,
        description=(
            "The issuers of every `[[ca]]`, with `previous` and the upstream chain, are trusted too, so that devices "
            "can renew."
        ),
    )


class ServerTls(Section):
    """What a listener presents and speaks, and where its certificate comes from."""

    cert: Path | None = Field(
        default=None,
        description="PEM; the server's certificate first, then intermediates. Required.",
        examples=["/etc/kipuka/tls/server.pem"],
    )
    key: Path | None = Field(
        default=None, description="PEM; its private key. Required.", examples=["/etc/kipuka/tls/server.key"]
    )
    key_password_env: str | None = Field(
        default=None,
        description="The environment variable that holds the password of an encrypted key.",
        examples=["KIPUKA_TLS_KEY_PASSWORD"],
    )
    key_password_file: Path | None = Field(
        default=None,
        description="The file that holds the password of an encrypted key, in its first line.",
        examples=["/etc/kipuka/tls/server.key.password"],
    )
    min_version: TlsVersion = Field(default="1.2", description="Nothing older can be configured (RFC 8996).")
    cipher_suites: CipherSuites = Field(
        default=DEFAULT_CIPHER_SUITES,
        description=(
            "TLS 1.2 only, in order of preference. The default holds every suite that is possible; those of TLS 1.3 "
            "are fixed."
        ),
    )
    material: ProviderName = Field(
        default="files",
        description=(
            "A TLS material provider. `files` reads `cert` and `key`; `self` has a server certificate issued by an own "
            "CA and keeps it renewed, so that there is neither `cert` nor `key`."
        ),
    )


class MaterialTable(OpenSection):
    """Settings of the TLS material provider that `material` names."""


class Tls(ServerTls):
    """The EST listener's TLS."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, MaterialTable] = Field(init=False)
    extra_tables: ClassVar[type[Section] | None] = MaterialTable

    client_auth: ClientAuth = Field(default_factory=ClientAuth, description="Client certificates.")

    @property
    def tables(self) -> dict[str, MaterialTable]:
        """Settings of material providers by name: ``[tls.NAME]``."""
        return dict(self.__pydantic_extra__)

    def __repr_args__(self) -> list[tuple[str | None, Any]]:
        """Only the core's part: what belongs to a plugin may be a secret."""
        return [(name, getattr(self, name)) for name in type(self).model_fields]


class AdminToken(Section):
    """A bearer token with a name and a role. It is in the environment or in a file, and is read at start."""

    name: ProviderName = Field(
        description="Who is meant: the audit trail has `token:NAME`. `operator` is the token of `[admin]` itself.",
        examples=["grafana"],
    )
    role: Role = Field(description="`operator`, or `viewer`, who may look and change nothing.", examples=["viewer"])
    env: str | None = Field(
        default=None, description="The environment variable that holds it.", examples=["KIPUKA_GRAFANA_TOKEN"]
    )
    file: Path | None = Field(
        default=None,
        description="The file that holds it, in its first line.",
        examples=["/etc/kipuka/grafana-token"],
    )


class AdminClientAuth(Section):
    """Client certificates on the admin listener. Never inherited from `[tls.client_auth]`.

    Without this table and without a bearer token nobody has an admin credential: the listener starts, answers
    `/admin/health/live` and `/admin/health/ready` only, and start-up says so. Whoever comes with a token alone needs
    `mode = "optional"`.
    """

    mode: ClientAuthMode = Field(
        default=ClientAuthMode.REQUIRED, description="As in `[tls.client_auth]`, for the admin listener."
    )
    trust_anchors: PathList = Field(
        default=(),
        description=(
            "PEM files with the CAs of administrators. Only a certificate whose direct issuer is in them, and which "
            "is not an issuer of a `[[ca]]`, is an operator. Required unless `mode` is `none`."
        ),
        examples=["/etc/kipuka/tls/admin-ca.pem"],
    )


class AdminTls(Section):
    """TLS of the admin listener; a key that is absent is as in `[tls]`."""

    cert: Path | None = Field(
        default=None,
        description="As in `[tls]`. Set together with `key`.",
        examples=["/etc/kipuka/tls/admin-server.pem"],
    )
    key: Path | None = Field(default=None, description="As in `[tls]`.", examples=["/etc/kipuka/tls/admin-server.key"])
    min_version: TlsVersion | None = Field(default=None, description="As in `[tls]`.", examples=["1.3"])
    cipher_suites: CipherSuites | None = Field(
        default=None, description="As in `[tls]`.", examples=[list(DEFAULT_CIPHER_SUITES[:4])]
    )


class Admin(Section):
    """The admin API: who may use it."""

    bearer_token_env: str | None = Field(
        default=None,
        description="The environment variable that holds one operator's bearer token: 32 characters or more, random.",
        examples=["KIPUKA_ADMIN_TOKEN"],
    )
    bearer_token_file: Path | None = Field(
        default=None,
        description="The file that holds it, in its first line.",
        examples=["/etc/kipuka/admin-token"],
    )
    operators: tuple[SubjectName, ...] = Field(
        default=(),
        description=(
            "RFC 4514 subjects of administrators who may change things, compared parsed. With `viewers` empty too, "
            "every certificate that `[admin.client_auth]` admits is an operator's."
        ),
        examples=[["CN=Ana,O=Example"]],
    )
    viewers: tuple[SubjectName, ...] = Field(
        default=(),
        description="RFC 4514 subjects of administrators who may look.",
        examples=[["CN=Ben,O=Example"]],
    )
    token: tuple[AdminToken, ...] = Field(default=(), description="Further bearer tokens.")
    console: Switch = Field(
        default=True,
        description="Whether the admin listener has the console for browsers, under `/console/`. It needs the same"
        " credentials as the API, and shows and does no more.",
    )
    client_auth: AdminClientAuth | None = Field(default=None, description="Client certificates.")
    tls: AdminTls = Field(default_factory=AdminTls, description="TLS of the admin listener.")

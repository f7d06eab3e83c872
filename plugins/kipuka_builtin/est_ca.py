"""CA backend ``est``: another EST server issues, and this one is its registration authority.

The device's own CSR is passed on as it is. See [External CAs](external-cas.md).
"""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, ClassVar, Self
from urllib.parse import urlsplit

from cryptography import x509
from pydantic import AfterValidator, Field, Strict, field_validator, model_validator

from kipuka_builtin.est_chain import UpstreamChain, kept_file
from kipuka_builtin.external_ca import certificate_for
from kipuka_core import (
    Approved,
    Asked,
    CaBackend,
    CaChain,
    CaProfile,
    CaProfileSettings,
    ConfigurationError,
    Duration,
    Issued,
    OutcomeUnknown,
    Provider,
    Services,
    Template,
    Unavailable,
    Wait,
    read_secret_file,
)
from kipuka_core.hooks.secret_files import check_permissions, read_file, shown

if TYPE_CHECKING:
    from kipuka_builtin.est_client import Answer, EstUpstream

_OPERATIONS = re.compile(r"/(cacerts|simpleenroll|simplereenroll|fullcmc|serverkeygen|csrattrs)$")
_WARN_BEFORE_END = timedelta(days=30)
_REPEATED_WITHIN = timedelta(minutes=9)
"""A little less than the ten minutes of ``repeat_is_safe``."""
_WAITS = "202"
"""The reference of a request that waits: the upstream knows it by its CSR (RFC 7030 4.2.3)."""


def _base_url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme != "https" or not parts.hostname:
        raise ValueError('must begin with "https://" and a host: EST is TLS only (RFC 7030 3.3)')
    if parts.username is not None or parts.password is not None:
        raise ValueError("must hold no credentials; write username and password_file")
    if parts.query or parts.fragment or not parts.path.strip("/") or any(each.isspace() for each in text):
        raise ValueError(
            "must be the address that operations are appended to, such as https://ca.example/.well-known/est/LABEL"
        )
    if match := _OPERATIONS.search(parts.path.rstrip("/")):
        raise ValueError(f"must end before the operation; leave out /{match[1]}")
    return text.rstrip("/")


class EstCaSettings(CaProfileSettings):
    """One ``[[ca]]`` table with ``backend = "est"``."""

    id: str | None = Field(default=None, description="The name of this CA; labels refer to it.")
    url: Annotated[str, AfterValidator(_base_url)] = Field(
        description="The upstream's EST address, with its label if it has one; operations are appended.",
        examples=["https://ca.example/.well-known/est/factory"],
    )
    trust_anchors: tuple[str, ...] = Field(
        min_length=1, description="PEM file or files with the CAs that the upstream's TLS certificate may come from."
    )
    cert: str | None = Field(
        default=None, description="PEM file with the certificate (and its intermediates) that this server presents."
    )
    key: str | None = Field(default=None, description="PEM file with its key, not encrypted.")
    username: str | None = Field(default=None, description="User name for HTTP Basic.")
    password_file: str | None = Field(default=None, description="File with the password for HTTP Basic.")
    password_env: str | None = Field(default=None, description="Or the environment variable that holds it.")
    timeout: Duration = Field(
        default=8,
        description="For a whole exchange with the upstream. Shorter than `[plugins] timeout`.",
    )
    repeat_is_safe: Annotated[bool, Strict()] = Field(
        default=False,
        description=(
            "The upstream answers an identical request within ten minutes from its record, and does not issue again: a "
            "request whose outcome is unknown is then repeated by itself. `false`: a person looks into it."
        ),
    )

    @field_validator("trust_anchors", mode="before")
    @classmethod
    def _one_path_is_a_list_too(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _credentials_are_whole(self) -> Self:
        if (self.cert is None) != (self.key is None):
            raise ValueError("cert and key are set together")
        has_password = self.password_file is not None or self.password_env is not None
        if (self.username is not None) != has_password:
            raise ValueError("username needs password_file or password_env, and the other way round")
        if self.password_file is not None and self.password_env is not None:
            raise ValueError("set password_file or password_env, not both")
        if self.cert is None and self.username is None:
            raise ValueError("needs a credential for the upstream: cert and key, or username and password_file")
        return self


class EstCa(CaBackend):
    """Passes CSRs on to the upstream. Safe for any number of concurrent calls."""

    external: ClassVar[bool] = True

    def __init__(
        self,
        settings: EstCaSettings,
        upstream: EstUpstream,
        chain: UpstreamChain,
        own_certificate: x509.Certificate | None,
        services: Services,
    ) -> None:
        self.finds = settings.repeat_is_safe
        self._upstream = upstream
        self._chain = chain
        self._profile = settings.ca_profile()
        self._own_certificate = own_certificate
        self._clock = services.clock

    @property
    def may_set(self) -> CaProfile:
        """What the settings declare."""
        return self._profile

    async def chain(self) -> CaChain:
        """What the upstream said last, in order."""
        return self._chain.now

    async def issue(self, approved: Approved) -> Issued | Wait:
        """Pass the device's CSR on to simpleenroll, for a renewal too: only the device could present its certificate.

        Raises as :meth:`CaBackend.issue` says.
        """
        self._check_own_certificate()
        return await self._outcome(await self._upstream.enrol(approved.enrolment.csr.der), approved.template)

    async def poll(self, asked: Asked) -> Issued | Wait:
        """Repeat the identical request (RFC 7030 4.2.3).

        Without a reference only where ``repeat_is_safe``, and soon enough for the upstream to have it on record.
        """
        if not asked.reference and not self.finds:
            raise Unavailable("an upstream EST server cannot be asked what became of a request")
        if not asked.reference and self._clock() - asked.asked_at > _REPEATED_WITHIN:
            raise Unavailable("it is too late to repeat this request: the upstream may not have it on record any more")
        self._check_own_certificate()
        try:
            return await self._outcome(await self._upstream.enrol(asked.csr_der), asked.template)
        except OutcomeUnknown as error:
            raise Unavailable(error.reason) from None

    async def ping(self) -> None:
        """Fetch the CA certificates. Raises Unavailable."""
        self._check_own_certificate()
        await self._upstream.cacerts()

    async def _outcome(self, answer: Answer, template: Template) -> Issued | Wait:
        if answer.status == 202:
            return Wait(
                answer.text or "the certification authority has not decided yet",
                retry_after_seconds=answer.retry_after_seconds,
                reference=_WAITS,
            )
        try:
            certificate = certificate_for(answer.certificates(), template.spki_der)
        except ValueError:
            certificate = None
        if certificate is None:
            raise OutcomeUnknown("the upstream EST server answers with no certificate for the key")
        await self._chain.saw(certificate)
        return Issued(certificate)

    def _check_own_certificate(self) -> None:
        if self._own_certificate and self._own_certificate.not_valid_after_utc < self._clock():
            raise Unavailable("the certificate of this server for the upstream EST server has expired")


def _context(settings: EstCaSettings, services: Services) -> ssl.SSLContext:
    """What verifies the upstream, and presents ``cert``. Raises ConfigurationError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # verifies certificate and name
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    for name in settings.trust_anchors:
        path = services.base_dir / name
        try:
            context.load_verify_locations(cafile=str(path))
        except (OSError, ssl.SSLError) as error:
            raise ConfigurationError(shown(path), f"cannot be used: {_why(error)}") from None
    if settings.cert is not None and settings.key is not None:
        cert, key = services.base_dir / settings.cert, services.base_dir / settings.key
        check_permissions(key, services)
        try:
            # An encrypted key would ask on the terminal otherwise.
            context.load_cert_chain(str(cert), str(key), password=lambda: b"")
        except (OSError, ssl.SSLError) as error:
            raise ConfigurationError(shown(cert), f"cannot be used with its key: {_why(error)}") from None
    return context


def _why(error: OSError) -> str:
    return getattr(error, "reason", None) or error.strerror or type(error).__name__


def _own_certificate(settings: EstCaSettings, services: Services) -> x509.Certificate | None:
    """The one that is presented to the upstream. Warns when it has expired or soon will."""
    if settings.cert is None:
        return None
    path = services.base_dir / settings.cert
    certificate = x509.load_pem_x509_certificates(read_file(path))[0]
    end = certificate.not_valid_after_utc
    if end - services.clock() < _WARN_BEFORE_END:
        services.warn(f"{shown(path)}: ends on {end:%Y-%m-%d}; renew it, or the upstream EST server will not take it")
    return certificate


def _password(settings: EstCaSettings, services: Services) -> tuple[str, bytes] | None:
    if settings.username is None:
        return None
    if settings.password_env is not None:
        password, where = os.environb.get(os.fsencode(settings.password_env), b""), settings.password_env
    else:
        path = services.base_dir / str(settings.password_file)
        password, where = read_secret_file(path, services), str(path)
        password = password.removesuffix(b"\n").removesuffix(b"\r")
    if not password:
        raise ConfigurationError(shown(where), "is empty or not set; it holds the password for the upstream EST server")
    return settings.username, password


@asynccontextmanager
async def _open(settings: EstCaSettings, services: Services) -> AsyncIterator[EstCa]:
    from kipuka_builtin.est_client import EstUpstream  # noqa: PLC0415  # httpx takes 0.2 s to import

    table = f"ca.{settings.id}" if settings.id else "ca"
    if settings.timeout >= services.call_timeout_seconds:
        raise ConfigurationError(
            f"{table}.timeout", f"must be shorter than [plugins] timeout, which is {services.call_timeout_seconds:g} s"
        )
    context, auth = _context(settings, services), _password(settings, services)
    own_certificate = _own_certificate(settings, services)
    upstream = EstUpstream(
        settings.url, context, settings.timeout, auth=auth, presents_certificate=settings.cert is not None
    )
    chain = UpstreamChain(
        upstream.cacerts,
        kept_file(services.state_dir, settings.url),
        services,
        patience_seconds=(services.call_timeout_seconds - settings.timeout) / 2,
    )
    await chain.load()
    async with chain.refreshing():
        yield EstCa(settings, upstream, chain, own_certificate, services)


PROVIDER: Provider[CaBackend] = Provider(name="est", settings=EstCaSettings, open=_open)

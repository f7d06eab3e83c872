"""CA backend ``local``: signs with a key of its own, from a file or a key store.

The certificate profile is that of RFC 5280 4.1 and 4.2. Everything that does not change from one certificate to the
next is built once, at start-up.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import lru_cache
from itertools import pairwise
from typing import NoReturn, Self, cast

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes, CertificatePublicKeyTypes
from cryptography.x509.oid import AuthorityInformationAccessOID
from pydantic import Field, field_validator, model_validator

from kipuka_core import (
    Approved,
    CaBackend,
    CaChain,
    ConfigurationError,
    Duration,
    Issued,
    Provider,
    Services,
    Settings,
    Signer,
    SigningHash,
    StatusAuthority,
    StatusTimes,
    Template,
    Unavailable,
    issued_by,
    signing_hash,
)
from kipuka_core.model.key_usage import key_usage_extension

_SLOW_RSA_BITS = 3072
_DAY_SECONDS = 86400
_SHORTEST_SECONDS = 60
_URL = re.compile(r"(https?|ldaps?)://[!-~]+")
_WARN_BEFORE_END = timedelta(days=30)


class LocalCaSettings(Settings):
    """One ``[[ca]]`` table with ``backend = "local"``."""

    id: str | None = Field(default=None, description="The name of this CA; labels refer to it.")
    cert: str = Field(description="PEM file with the CA's certificate; its issuers may follow in the same file.")
    key: str = Field(description="PEM file with the CA's key, or a key store URI such as pkcs11:object=issuing-ca.")
    chain: tuple[str, ...] = Field(
        default=(), description="PEM file or files with the CA's issuers in order, up to and including the root."
    )
    previous: tuple[str, ...] = Field(
        default=(), description="PEM files with issuers of earlier generations and roll-over certificates."
    )
    previous_keys: tuple[str, ...] = Field(
        default=(),
        description=(
            "Keys of issuers in `previous`, as `key` is written: their CRLs and OCSP answers go on. Keep each until "
            "the last certificate by it has ended."
        ),
    )
    validity_days: int = Field(default=365, gt=0, description="Longest validity of what this CA issues, in days.")
    cdp_urls: tuple[str, ...] = Field(default=(), description="CRL distribution points in issued certificates.")
    aia_urls: tuple[str, ...] = Field(default=(), description="Where this CA's certificate can be fetched (caIssuers).")
    ocsp_urls: tuple[str, ...] = Field(default=(), description="OCSP responders in issued certificates.")
    crl_validity: Duration = Field(
        default=7 * _DAY_SECONDS, description="From thisUpdate to nextUpdate of this CA's CRLs."
    )
    crl_refresh: Duration = Field(
        default=_DAY_SECONDS,
        description=(
            "After this time a CRL is made anew although nothing was revoked. Shorter than `crl_validity`, by as long "
            "as the CA's key may be away."
        ),
    )
    ocsp_validity: Duration = Field(
        default=3600, description="From thisUpdate to nextUpdate of OCSP answers about this CA's certificates."
    )

    @model_validator(mode="after")
    def _a_crl_is_renewed_before_it_ends(self) -> Self:
        if self.crl_refresh >= self.crl_validity:
            raise ValueError("crl_refresh must be shorter than crl_validity; set both")
        return self

    @field_validator("crl_validity", "crl_refresh", "ocsp_validity")
    @classmethod
    def _not_too_short_to_be_fetched(cls, value: int) -> int:
        if value < _SHORTEST_SECONDS:
            raise ValueError(f"must be at least {_SHORTEST_SECONDS}s")
        return value

    @field_validator("cdp_urls", "aia_urls", "ocsp_urls")
    @classmethod
    def _somebody_can_follow_them(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for url in value:
            if not _URL.fullmatch(url):
                raise ValueError(f'"{url}" is not a URL such as "http://pki.example.com/…"; it stands in certificates')
        return value

    @field_validator("chain", "previous", "previous_keys", mode="before")
    @classmethod
    def _one_path_is_a_list_too(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value


class LocalCa(CaBackend):
    """Builds and signs certificates in this process. Safe for any number of concurrent :meth:`issue`."""

    def __init__(
        self,
        settings: LocalCaSettings,
        chain: CaChain,
        signer: Signer,
        services: Services,
        *,
        previous: Sequence[tuple[x509.Certificate, Signer]] = (),
    ) -> None:
        self._chain = chain
        self._key = signer.private_key
        self._hash = signing_hash(signer.private_key)
        self._run_blocking = signer.run_blocking or services.run_blocking
        self._hsm_backed = signer.hsm_backed
        self._blocking = signer.blocking or (
            isinstance(signer.private_key, rsa.RSAPrivateKey) and signer.private_key.key_size >= _SLOW_RSA_BITS
        )
        self._validity = self.longest_validity = timedelta(days=settings.validity_days)
        self._not_after = chain.issuing.not_valid_after_utc
        self._same_for_all = _same_for_all(chain.issuing)
        self._pointers = _pointers(settings)
        times = StatusTimes(
            crl_validity=timedelta(seconds=settings.crl_validity),
            crl_refresh=timedelta(seconds=settings.crl_refresh),
            ocsp_validity=timedelta(seconds=settings.ocsp_validity),
        )
        self._status_authorities = tuple(
            StatusAuthority(issuer=issuer, signer=each, hash_algorithm=signing_hash(each.private_key), times=times)
            for issuer, each in ((chain.issuing, signer), *previous)
        )

    @property
    def hash_name(self) -> str | None:
        """The hash that certificates are signed with (``sha256``); None where the key's algorithm has none."""
        return self._hash.name if self._hash else None

    @property
    def hsm_backed(self) -> bool:
        """Whether the key lives in a token."""
        return self._hsm_backed

    @property
    def pointers(self) -> Sequence[x509.ExtensionType]:
        """What ``cdp_urls``, ``aia_urls`` and ``ocsp_urls`` give."""
        return self._pointers

    @property
    def status_authorities(self) -> Sequence[StatusAuthority]:
        """The issuing key, and those of ``previous_keys``."""
        return self._status_authorities

    async def chain(self) -> CaChain:
        """The certificates that were loaded at start-up."""
        return self._chain

    async def issue(self, approved: Approved) -> Issued:
        """Sign the approved template; RSA of 3072 bits and more, and slow tokens, in a worker thread."""
        builder = self._builder(approved)
        if self._blocking:
            return Issued(await self._run_blocking(builder.sign, self._key, self._hash))
        return Issued(builder.sign(self._key, self._hash))

    async def ping(self) -> None:
        """Sign a probe and verify it. Raises Unavailable."""
        try:
            fine = await self._run_blocking(_key_belongs_to, self._key, self._hash, self._chain.issuing)
        except Exception as error:
            raise Unavailable("the CA key does not answer") from error
        if not fine:
            raise Unavailable("the CA key is not the one of the CA certificate any more")

    def _builder(self, approved: Approved) -> x509.CertificateBuilder:
        template, csr = approved.template, approved.enrolment.csr
        public_key = csr.public_key
        if template.spki_der != csr.spki_der:
            public_key = serialization.load_der_public_key(template.spki_der)
        certified_key = cast("CertificatePublicKeyTypes", public_key)
        builder = (
            self._same_for_all.subject_name(template.subject)
            .public_key(certified_key)
            .serial_number(x509.random_serial_number())  # 159 random bits: more than 64, at most 20 octets
            .not_valid_before(template.not_before)
            .not_valid_after(min(template.not_after, template.not_before + self._validity, self._not_after))
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(certified_key), critical=False)
            .add_extension(_key_usage(template.key_usage), critical=True)
        )
        if template.ext_key_usage:
            builder = builder.add_extension(_ext_key_usage(template.ext_key_usage), critical=False)
        return self._with_names_and_more(builder, template)

    def _with_names_and_more(self, builder: x509.CertificateBuilder, template: Template) -> x509.CertificateBuilder:
        if template.san:
            # RFC 5280 4.1.2.6: where the subject is empty, the SAN alone names the holder and is critical.
            alternative = x509.SubjectAlternativeName(template.san)
            builder = builder.add_extension(alternative, critical=not template.subject.rdns)
        for extension in template.extensions:
            builder = builder.add_extension(extension.value, critical=extension.critical)
        for pointer in self._pointers:
            builder = builder.add_extension(pointer, critical=False)
        return builder


@lru_cache(maxsize=256)
def _key_usage(names: frozenset[str]) -> x509.KeyUsage:
    return key_usage_extension(names)


@lru_cache(maxsize=256)
def _ext_key_usage(oids: tuple[str, ...]) -> x509.ExtendedKeyUsage:
    return x509.ExtendedKeyUsage(map(x509.ObjectIdentifier, oids))


def _same_for_all(issuer: x509.Certificate) -> x509.CertificateBuilder:
    """What every certificate of this CA has; builders are immutable, so this one is a starting point for all."""
    try:
        ski = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        aki = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(ski)
    except x509.ExtensionNotFound:
        aki = x509.AuthorityKeyIdentifier.from_issuer_public_key(
            cast("rsa.RSAPublicKey | ec.EllipticCurvePublicKey", issuer.public_key())
        )
    return (
        x509.CertificateBuilder()
        .issuer_name(issuer.subject)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(aki, critical=False)
    )


def _pointers(settings: LocalCaSettings) -> tuple[x509.ExtensionType, ...]:
    pointers: list[x509.ExtensionType] = []
    if settings.cdp_urls:
        names = [x509.UniformResourceIdentifier(url) for url in settings.cdp_urls]
        point = x509.DistributionPoint(full_name=names, relative_name=None, reasons=None, crl_issuer=None)
        pointers.append(x509.CRLDistributionPoints([point]))
    access = [(AuthorityInformationAccessOID.OCSP, url) for url in settings.ocsp_urls]
    access += [(AuthorityInformationAccessOID.CA_ISSUERS, url) for url in settings.aia_urls]
    if access:
        pointers.append(
            x509.AuthorityInformationAccess(
                [x509.AccessDescription(method, x509.UniformResourceIdentifier(url)) for method, url in access]
            )
        )
    return tuple(pointers)


def _key_belongs_to(
    key: CertificateIssuerPrivateKeyTypes, hash_algorithm: SigningHash | None, certificate: x509.Certificate
) -> bool:
    """Whether ``key`` signs what the certificate's key verifies, shown with a request that nobody gets to see."""
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hash_algorithm)
    return request.public_key() == certificate.public_key() and request.is_signature_valid


class _Loader:
    """Reads and checks one ``[[ca]]`` table. Every problem is a ConfigurationError that names the key and the file."""

    def __init__(self, settings: LocalCaSettings, services: Services) -> None:
        self._settings = settings
        self._services = services
        self._table = f"ca.{settings.id}" if settings.id else "ca"

    async def load(self) -> LocalCa:
        chain = self._chain()
        signer = await self._signer("key", self._settings.key)
        if not await self._belongs(signer, chain.issuing):
            self._refuse("key", f"is not the key of the certificate in {self._settings.cert}")
        previous = [await self._previous(uri, chain) for uri in self._settings.previous_keys]
        return LocalCa(self._settings, chain, signer, self._services, previous=previous)

    async def _signer(self, setting: str, uri: str) -> Signer:
        try:
            return await self._services.open_signer(uri)
        except ConfigurationError as error:
            self._refuse(setting, str(error), error)

    async def _belongs(self, signer: Signer, certificate: x509.Certificate) -> bool:
        hash_algorithm = signing_hash(signer.private_key)
        run_blocking = signer.run_blocking or self._services.run_blocking
        answer: bool = await run_blocking(_key_belongs_to, signer.private_key, hash_algorithm, certificate)
        return answer

    async def _previous(self, uri: str, chain: CaChain) -> tuple[x509.Certificate, Signer]:
        """An issuer of an earlier generation and its key. Of several certificates around the key, the last to end."""
        signer = await self._signer("previous_keys", uri)
        issuers = [each for each in chain.previous if await self._belongs(signer, each)]
        if not issuers:
            self._refuse("previous_keys", "a key in the list is not that of a certificate in previous")
        issuer = max(issuers, key=lambda each: each.not_valid_after_utc)
        if issuer.public_key() == chain.issuing.public_key():
            self._refuse("previous_keys", "the list holds the key that issues now; remove it")
        if issuer.not_valid_after_utc < self._services.clock():
            self._services.warn(
                f"{self._table}.previous_keys: {issuer.subject.rfc4514_string()} expired on"
                f" {issuer.not_valid_after_utc:%Y-%m-%d}; remove its key"
            )
        return issuer, signer

    def _chain(self) -> CaChain:
        issuing, *following = self._read("cert", (self._settings.cert,))
        above = [*following, *self._read("chain", self._settings.chain)]
        certificates = tuple(dict.fromkeys((issuing, *above)))
        for lower, upper in pairwise(certificates):
            self._check_link(lower, upper)
        for position, certificate in enumerate(certificates):
            self._check_authority(certificate, position)
        root = certificates[-1]
        if not issued_by(root, root):
            self._refuse("chain", f"ends before the root; add the certificate of {root.issuer.rfc4514_string()}")
        return CaChain(certificates=certificates, previous=tuple(self._read("previous", self._settings.previous)))

    def _read(self, setting: str, files: Sequence[str]) -> list[x509.Certificate]:
        certificates: list[x509.Certificate] = []
        for name in files:
            path = self._services.base_dir / name
            try:
                certificates += x509.load_pem_x509_certificates(path.read_bytes())
            except OSError as error:
                self._refuse(setting, f"{path} cannot be read: {error.strerror}", error)
            except ValueError as error:
                self._refuse(setting, f"{path} does not hold PEM certificates", error)
        return certificates

    def _check_authority(self, certificate: x509.Certificate, certificates_below: int) -> None:
        setting = "chain" if certificates_below else "cert"
        who = f"the certificate of {certificate.subject.rfc4514_string()}"
        try:
            constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
            usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
        except x509.ExtensionNotFound as error:
            self._refuse_certificate(setting, f"{who} is not a CA's: it has no basicConstraints or no keyUsage", error)
        if not constraints.ca or not usage.key_cert_sign:
            self._refuse_certificate(
                setting, f"{who} is not a CA's: it needs basicConstraints CA:TRUE and keyUsage keyCertSign"
            )
        if constraints.path_length is not None and constraints.path_length < certificates_below:
            self._refuse_certificate(
                setting, f"{who} allows only {constraints.path_length} CAs below it (pathLenConstraint)"
            )
        self._check_time(certificate, setting, who)

    def _check_time(self, certificate: x509.Certificate, setting: str, who: str) -> None:
        now, end = self._services.clock(), certificate.not_valid_after_utc
        if now < certificate.not_valid_before_utc:
            self._refuse_certificate(
                setting, f"{who} is not valid before {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC"
            )
        if now > end:
            self._refuse_certificate(setting, f"{who} expired on {end:%Y-%m-%d}; renew it")
        if end - now < _WARN_BEFORE_END:
            self._services.warn(f"{self._table}.{setting}: {who} expires on {end:%Y-%m-%d}; renew it")

    def _check_link(self, lower: x509.Certificate, upper: x509.Certificate) -> None:
        if not issued_by(upper, lower):
            self._refuse_certificate(
                "chain",
                f"{upper.subject.rfc4514_string()} did not issue {lower.subject.rfc4514_string()}; "
                "list the issuers in order, each below the one that it issued",
            )

    def _refuse_certificate(self, setting: str, problem: str, cause: Exception | None = None) -> NoReturn:
        files = self._settings.chain if setting == "chain" else ()
        shown = ", ".join(str(self._services.base_dir / name) for name in files or (self._settings.cert,))
        self._refuse(setting, f"{problem} ({shown})", cause)

    def _refuse(self, setting: str, problem: str, cause: Exception | None = None) -> NoReturn:
        raise ConfigurationError(f"{self._table}.{setting}", problem) from cause


@asynccontextmanager
async def _open(settings: LocalCaSettings, services: Services) -> AsyncIterator[LocalCa]:
    yield await _Loader(settings, services).load()


PROVIDER: Provider[CaBackend] = Provider(name="local", settings=LocalCaSettings, open=_open)

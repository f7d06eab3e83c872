"""From an open assembly to what its two listeners need of TLS, read from the files as they are now and not yet used."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding

from kipuka_core.assemble import Assembly, utc_now
from kipuka_core.config import Config, PluginTable
from kipuka_core.domain.ports import ServerIdentity, TlsMaterial
from kipuka_core.edges.tls.anchors import load_anchors
from kipuka_core.edges.tls.ciphers import suites_for_key
from kipuka_core.edges.tls.context import ServerTls
from kipuka_core.edges.tls.files import load_certificates
from kipuka_core.edges.tls.server_certificate import (
    RENEWAL_NOTICE,
    Remark,
    Surroundings,
    remarks_on_server_certificate,
)
from kipuka_core.errors import ConfigurationError, KipukaError, PluginFailed
from kipuka_core.hooks.lifecycle import naming_the_key


@dataclass(frozen=True, slots=True)
class ServerChain:
    """A server certificate and what follows it in its file."""

    file: str
    certificates: tuple[x509.Certificate, ...]
    surroundings: Surroundings = field(default_factory=Surroundings)
    is_stand_in: bool = False
    """Not what is served: a dry run's, until the next start has one issued."""

    def inspect(self, now: datetime) -> list[str]:
        """What clients may dislike in it. Raises ConfigurationError for a certificate that is not in time."""
        return [str(remark) for remark in self.remarks(now) if remark.is_warning]

    def remarks(self, now: datetime) -> list[Remark]:
        """Everything that there is to say of it. Raises as :meth:`inspect` does."""
        if self.is_stand_in:
            return []
        leaf, *above = self.certificates
        return remarks_on_server_certificate(leaf, tuple(above), now, self.file, self.surroundings)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientTrust:
    """Whose client certificates count: ``listener`` for the handshake, ``plugins`` for authenticators.

    ``listed`` are those of files, which somebody has to keep up to date.
    """

    listener: tuple[x509.Certificate, ...]
    plugins: tuple[x509.Certificate, ...]
    listed: tuple[x509.Certificate, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerMaterial:
    """Everything that a process reads for its listener at start, and again at every reload."""

    tls: ServerTls
    chain: ServerChain
    trust: ClientTrust
    others: tuple[ServerChain, ...] = ()
    """Server certificates of another process, for whoever asks this one how they are."""
    remarks: tuple[str, ...] = ()
    """What providers said of their files while they were asked."""

    @property
    def digest(self) -> str:
        """The same for two processes that have read the same certificates."""
        known = (*self.chain.certificates, *self.trust.listener, *self.trust.plugins)
        return sha256(b"".join(sha256(each.public_bytes(Encoding.DER)).digest() for each in known)).hexdigest()

    def __str__(self) -> str:
        leaf = self.chain.certificates[0]
        anchors = len(self.trust.listener)
        trusts = f"{anchors} trust anchor{'' if anchors == 1 else 's'}"
        if self.tls.client_auth == "none":
            trusts = "no client certificates"
        subject = leaf.subject.rfc4514_string() or f"serial {leaf.serial_number:x}"
        return f"certificate {subject} until {leaf.not_valid_after_utc:%Y-%m-%d %H:%M}Z, {trusts}"

    def warnings(self, now: datetime) -> list[str]:
        """What somebody should do something about, as things are ``now`` (aware). Reads no file."""
        found = list(self.remarks)
        for chain in (self.chain, *self.others):
            where = f"{chain.file}: " if self.others else ""
            try:
                found.extend(where + line for line in chain.inspect(now))
            except ConfigurationError as error:
                found.append(str(error))
        return list(dict.fromkeys((*found, *self.suite_warnings(), *self.anchor_warnings(now))))

    def suite_warnings(self) -> list[str]:
        """Of these, what is about cipher suites."""
        leaf = self.chain.certificates[0]
        if self.tls.min_version == "1.3" or suites_for_key(self.tls.cipher_suites, leaf.public_key()):
            return []
        kind = "RSA" if isinstance(leaf.public_key(), rsa.RSAPublicKey) else "ECDSA"
        problem = "none of the list is for the server's key, so no TLS 1.2 client can connect"
        return [f"cipher_suites: {problem}; add TLS_ECDHE_{kind}_… ones"]

    def anchor_warnings(self, now: datetime) -> list[str]:
        """Of these, what is about trust anchors."""
        return [
            f"the trust anchor {anchor.subject.rfc4514_string()} ends on {anchor.not_valid_after_utc:%Y-%m-%d}:"
            " replace it; kipuka neither starts nor reloads with one that has ended"
            for anchor in self.trust.listed
            if anchor.not_valid_after_utc - now < RENEWAL_NOTICE
        ]


async def est_material(assembly: Assembly, trust: ClientTrust | None = None) -> ListenerMaterial:
    """The EST listener: ``[tls]``; the own CAs are anchors too, so that devices can renew.

    With ``trust`` the anchors stay what they are. Raises ConfigurationError for whatever could not be served.
    """
    config = assembly.config
    trust = trust or _est_trust(assembly, utc_now())
    identity, chain, remarks = await _identity(assembly, config.tls_material, trust)
    tls = ServerTls(
        certificate_file=identity.certificate_file,
        key_file=identity.key_file,
        key_password=identity.key_password,
        min_version=config.tls.min_version,
        cipher_suites=config.tls.cipher_suites,
        client_auth=config.tls.client_auth.mode.value,
        anchors=trust.listener,
    )
    return ListenerMaterial(tls=tls, chain=chain, trust=trust, remarks=remarks)


async def admin_material(assembly: Assembly, trust: ClientTrust | None = None) -> ListenerMaterial:
    """The admin listener: ``[admin.tls]`` over ``[tls]``; ``[admin.client_auth]`` inherits nothing.

    The EST listener's certificate is looked at too, because the health page is served here. With ``trust`` the anchors
    stay what they are. Raises ConfigurationError for whatever could not be served.
    """
    config = assembly.config
    trust = trust or _admin_trust(assembly, utc_now())
    identity, chain, remarks = await _identity(assembly, config.admin_tls_material, trust)
    others: tuple[ServerChain, ...] = ()
    if config.tls_material.toml_path != config.admin_tls_material.toml_path:
        _, est_chain, est_remarks = await _identity(assembly, config.tls_material, trust)
        others, remarks = (est_chain,), (*remarks, *est_remarks)
    tls = ServerTls(
        certificate_file=identity.certificate_file,
        key_file=identity.key_file,
        key_password=identity.key_password,
        min_version=config.admin_tls.min_version,
        cipher_suites=config.admin_tls.cipher_suites,
        client_auth=config.admin.client_auth.mode.value if config.admin.client_auth else "none",
        anchors=trust.listener,
    )
    return ListenerMaterial(tls=tls, chain=chain, trust=trust, others=others, remarks=remarks)


async def est_tls(assembly: Assembly) -> ServerTls:
    """TLS of the EST listener; what providers say of their files is added to the assembly's warnings."""
    material = await est_material(assembly)
    assembly.warnings.extend(material.remarks)
    return material.tls


def _est_trust(assembly: Assembly, now: datetime) -> ClientTrust:
    client_auth = assembly.config.tls.client_auth
    listed = _client_anchors(assembly, now)
    own = assembly.own_issuers if client_auth.trust_own_cas and client_auth.mode != "none" else ()
    return ClientTrust(listener=tuple(dict.fromkeys((*listed, *own))), plugins=listed, listed=listed)


def _admin_trust(assembly: Assembly, now: datetime) -> ClientTrust:
    client_auth = assembly.config.admin.client_auth
    anchors = (
        load_anchors(client_auth.trust_anchors, where="admin.client_auth.trust_anchors", now=now) if client_auth else ()
    )
    plugins = _client_anchors(assembly, now)
    return ClientTrust(listener=anchors, plugins=plugins, listed=tuple(dict.fromkeys((*plugins, *anchors))))


def _client_anchors(assembly: Assembly, now: datetime) -> tuple[x509.Certificate, ...]:
    paths = assembly.config.tls.client_auth.trust_anchors
    return load_anchors(paths, where="tls.client_auth.trust_anchors", now=now)


async def _identity(
    assembly: Assembly, table: PluginTable, trust: ClientTrust
) -> tuple[ServerIdentity, ServerChain, tuple[str, ...]]:
    """What a provider of TLS material hands out, the certificates in it, and what it warned of."""
    material = await assembly.open_tls(table)
    warned_before = len(assembly.warnings)
    try:
        identity = await _answer_of(material, table, assembly)
    finally:
        remarks = tuple(assembly.warnings[warned_before:])
        del assembly.warnings[warned_before:]
    file = identity.certificate_file
    try:
        certificates = load_certificates(file)
    except ConfigurationError as error:
        raise _naming_the_material(error, table, assembly.config) from error
    surroundings = Surroundings((*assembly.own_issuers, *trust.listed), _hosts(assembly.config, table))
    return identity, ServerChain(file, certificates, surroundings, identity.is_stand_in), remarks


def _naming_the_material(error: ConfigurationError, table: PluginTable, config: Config) -> ConfigurationError:
    """An error about a file that a provider names, as one about the key that it stands in or else the provider."""
    named = naming_the_key(error, table.settings, table.toml_path, base_dir=config.base_dir)
    if named.where != error.where:
        return named
    return ConfigurationError(table.toml_path, f"TLS material {table.use!r} names {error}")


def _hosts(config: Config, table: PluginTable) -> tuple[str, ...]:
    """Where the listeners are that serve this material."""
    served = (
        (config.server.listen, config.tls_material),
        (config.server.admin_listen, config.admin_tls_material),
    )
    return tuple(address.host for address, other in served if other.toml_path == table.toml_path)


async def _answer_of(material: TlsMaterial, table: PluginTable, assembly: Assembly) -> ServerIdentity:
    try:
        return await assembly.road.guard.call(table.use, material.server_identity, expect=ServerIdentity)
    except PluginFailed as failure:
        cause = failure.__cause__
        if isinstance(cause, ConfigurationError):
            base_dir = assembly.config.base_dir
            raise naming_the_key(cause, table.settings, table.toml_path, base_dir=base_dir) from cause
        problem = str(cause) if isinstance(cause, KipukaError) else f"TLS material {table.use!r}: {failure.detail}"
        raise ConfigurationError(table.toml_path, problem) from failure
    except KipukaError as error:
        raise ConfigurationError(table.toml_path, str(error)) from error

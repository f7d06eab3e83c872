"""The whole of ``kipuka.toml`` as one frozen value, and what follows from it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, PrivateAttr

from kipuka_core.config.section import PluginTable, Section
from kipuka_core.config.sections.enrollment import Enrollment, Est
from kipuka_core.config.sections.plugins import (
    Audit,
    Auth,
    Ca,
    CaGroup,
    Db,
    Plugins,
    PluginSettings,
    Policy,
    ProviderTable,
)
from kipuka_core.config.sections.retention import Retention
from kipuka_core.config.sections.revocation import Revocation
from kipuka_core.config.sections.server import Admin, AdminToken, ClientAuthMode, Server, ServerTls, Tls
from kipuka_core.config.values import ProviderName
from kipuka_core.model.administrator import Role

EMBEDDED_CA_ID = "default"
OWN_TOKEN_NAME = "operator"  # noqa: S105  # what a token is called
_ADMIN_TLS_KEYS = ("cert", "key", "min_version", "cipher_suites")
_MATERIAL_KEYS = ("cert", "key", "key_password_env", "key_password_file")
_Tables = Annotated[dict[ProviderName, PluginSettings], Field(repr=False)]


class Config(Section):
    """A configuration that was read, checked and made absolute by :func:`kipuka_core.config.load`.

    The attributes are the tables of the file; durations are seconds, OIDs are dotted, paths are absolute. The
    properties say what follows from several of them.
    """

    server: Server = Field(default_factory=Server, description="Listeners and limits.")
    tls: Tls = Field(default_factory=Tls, description="TLS of the EST listener.")
    admin: Admin = Field(default_factory=Admin, description="The admin API.")
    enrollment: Enrollment = Field(default_factory=Enrollment, description="Rules of issuance.")
    ca: tuple[Ca, ...] = Field(default=(), description="Certification authorities.")
    ca_group: tuple[CaGroup, ...] = Field(default=(), description="Several CAs for one purpose.")
    est: Est = Field(default_factory=Est, description="The protocol, and labels.")
    auth: Auth = Field(default_factory=Auth, description="Who may ask.")
    policy: Policy = Field(default_factory=Policy, description="What may be asked.")
    key_store: _Tables = Field(default_factory=dict, description="Settings of the key store NAME.")
    hsm: PluginSettings | None = Field(default=None, repr=False, description="The short name of `[key_store.pkcs11]`.")
    plugins: Plugins = Field(default_factory=Plugins, description="Plugins beyond the built-in ones.")
    plugin: _Tables = Field(
        default_factory=dict, description="Settings of the plugin NAME for its commands and admin routes."
    )
    db: Db = Field(default_factory=Db, description="The store.")
    revocation: Revocation = Field(default_factory=Revocation, description="Client certificates without a record.")
    audit: Audit = Field(default_factory=Audit, description="The audit trail.")
    retention: Retention = Field(default_factory=Retention, description="How long the database keeps what is over.")

    _path: Path = PrivateAttr(default=Path("kipuka.toml"))
    _changed_at: str = PrivateAttr(default="")

    @property
    def path(self) -> Path:
        """The file that this was read from."""
        return self._path

    @property
    def changed_at(self) -> str:
        """When the file was last changed before it was read (RFC 3339, UTC); empty where it was no file."""
        return self._changed_at

    @property
    def base_dir(self) -> Path:
        """The directory that relative paths in the file, also those in plugins' settings, are relative to."""
        return self._path.parent

    # -- certification authorities ---------------------------------------------------------------------------------
    @property
    def has_embedded_ca(self) -> bool:
        """Whether the file names no ``[[ca]]``, so that the CA made by ``kipuka init`` serves."""
        return not self.ca

    @property
    def cas(self) -> tuple[Ca, ...]:
        """Every CA that serves: those of the file, or the embedded one."""
        return self.ca or (embedded_ca(self.server.state_dir),)

    @property
    def default_ca(self) -> Ca:
        """The CA of labels that name none."""
        return next((ca for ca in self.cas if ca.is_default), self.cas[0])

    @property
    def ca_backends(self) -> tuple[PluginTable, ...]:
        """``cas`` as tables for their backends; ``name`` is the CA's id."""
        return tuple(
            PluginTable(name=ca.id, use=ca.backend, settings=ca.settings, toml_path=f"ca[{index}]")
            for index, ca in enumerate(self.cas)
        )

    # -- other plugins ---------------------------------------------------------------------------------------------
    @property
    def authenticators(self) -> tuple[PluginTable, ...]:
        """Every authenticator that ``[auth] order`` or a label names, once each, in the order of appearance."""
        orders = (self.auth.order, *(label.auth or () for label in self.est.label))
        names = dict.fromkeys(name for order in orders for entry in order for name in entry)
        return tuple(_provider_table("auth", name, self.auth.tables) for name in names)

    @property
    def policies(self) -> tuple[PluginTable, ...]:
        """The policies, in order."""
        return tuple(_provider_table("policy", name, self.policy.tables) for name in self.policy.order)

    @property
    def key_stores(self) -> tuple[PluginTable, ...]:
        """Every key store with a table, ``[hsm]`` among them as ``pkcs11``; ``file`` is always there."""
        tables: dict[str, tuple[str, PluginSettings]] = {"file": ("key_store.file", {})}
        tables |= {name: (f"key_store.{name}", settings) for name, settings in self.key_store.items()}
        if self.hsm is not None:
            tables["pkcs11"] = ("hsm", self.hsm)
        return tuple(
            PluginTable(name=name, use=name, settings=settings, toml_path=toml_path)
            for name, (toml_path, settings) in tables.items()
        )

    @property
    def event_sinks(self) -> tuple[PluginTable, ...]:
        """``audit.sink`` as tables for their providers, in the same order."""
        return tuple(
            PluginTable(name=sink.use, use=sink.use, settings=sink.settings, toml_path=f"audit.sink[{index}]")
            for index, sink in enumerate(self.audit.sink)
        )

    # -- listeners -------------------------------------------------------------------------------------------------
    @property
    def admin_tls(self) -> ServerTls:
        """TLS of the admin listener: ``[admin.tls]``, and ``[tls]`` where that is silent."""
        base = {name: getattr(self.tls, name) for name in ServerTls.model_fields}
        own = {name: getattr(self.admin.tls, name) for name in _ADMIN_TLS_KEYS}
        if own["cert"] is not None:  # files of its own, whatever the EST listener has
            base["material"] = "files"
        return ServerTls.model_validate(base | {name: value for name, value in own.items() if value is not None})

    @property
    def tls_material(self) -> PluginTable:
        """What the EST listener's TLS material provider is told."""
        return _material("tls", self.tls, self._material_settings)

    @property
    def admin_tls_material(self) -> PluginTable:
        """What the admin listener's TLS material provider is told."""
        if self.admin.tls.cert is None:
            return self.tls_material
        return _material("admin.tls", self.admin_tls, {})

    @property
    def _material_settings(self) -> dict[str, Any]:
        table = self.tls.tables.get(self.tls.material)
        return table.settings if table else {}

    @property
    def has_admin_credential(self) -> bool:
        """Whether anybody can be an administrator. If not, the admin listener answers ``live`` and ``ready`` only."""
        return self.has_admin_certificates or bool(self.admin_tokens)

    @property
    def has_admin_certificates(self) -> bool:
        """Whether a client certificate can be an admin credential."""
        client_auth = self.admin.client_auth
        return client_auth is not None and client_auth.mode is not ClientAuthMode.NONE

    @property
    def admin_tokens(self) -> tuple[AdminToken, ...]:
        """Every bearer token, that of ``[admin]`` itself first, under the name ``operator``."""
        admin = self.admin
        if admin.bearer_token_env is None and admin.bearer_token_file is None:
            return admin.token
        own = AdminToken(
            name=OWN_TOKEN_NAME, role=Role.OPERATOR, env=admin.bearer_token_env, file=admin.bearer_token_file
        )
        return (own, *admin.token)

    # -- store -----------------------------------------------------------------------------------------------------
    @property
    def database_url(self) -> str:
        """``[db] url`` with an absolute path, or SQLite under ``state_dir``. May hold a password."""
        url = self.db.url
        if url is None:
            return f"sqlite:///{self.server.state_dir / 'kipuka.db'}"
        if url.startswith("sqlite:///"):
            return f"sqlite:///{self.base_dir / url.removeprefix('sqlite:///')}"
        return url


def embedded_ca(state_dir: Path) -> Ca:
    """The CA that ``kipuka init`` makes under ``state_dir``: an issuing CA below a root."""
    directory = state_dir / "ca"
    files = {"cert": "issuing.pem", "key": "issuing.key", "chain": "root.pem"}
    settings = {name: str(directory / file) for name, file in files.items()}
    return Ca.model_validate({"id": EMBEDDED_CA_ID, "backend": "local", **settings})


def _provider_table(section: str, name: str, tables: dict[str, ProviderTable]) -> PluginTable:
    table = tables.get(name, ProviderTable())
    return PluginTable(name=name, use=table.use or name, settings=table.settings, toml_path=f"{section}.{name}")


def _material(toml_path: str, tls: ServerTls, further: dict[str, Any]) -> PluginTable:
    settings: dict[str, Any] = {name: getattr(tls, name) for name in _MATERIAL_KEYS}
    present = {name: value for name, value in settings.items() if value is not None}
    # A provider other than `files` has a table of its own: [tls.NAME].
    where = toml_path if tls.material == "files" else f"{toml_path}.{tls.material}"
    return PluginTable(name=tls.material, use=tls.material, settings=present | further, toml_path=where)

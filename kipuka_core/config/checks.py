"""What has to hold between keys. Needs no plugin and looks at no file but ``kipuka.toml``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from kipuka_core.config.failures import unknown_key
from kipuka_core.config.labels import rules_of
from kipuka_core.config.model import OWN_TOKEN_NAME, Config
from kipuka_core.config.sections.enrollment import Enrollment, EstLabel
from kipuka_core.config.sections.server import AdminClientAuth, ClientAuth, ClientAuthMode
from kipuka_core.errors import ConfigurationError
from kipuka_core.model.ca_group import Strategy
from kipuka_core.model.label import SubjectBinding
from kipuka_core.model.request import Operation
from kipuka_core.wire.paths import LABEL_PATTERN, valid_label_name

POLICY_OF_KEY = {
    "allowed_key_types": "keys",
    "allowed_signature_algorithms": "keys",
    "require_san": "names",
    "subject_binding": "names",
    "subject_pattern": "names",
    "max_validity_days": "validity",
    "key_usage": "extensions",
    "ext_key_usage": "extensions",
    "allowed_extensions": "extensions",
}
"""Which policy gives an ``[enrollment]`` key its effect; the others are the core's own."""


def cross_checks(config: Config) -> Iterator[ConfigurationError]:
    """Everything wrong between keys, in the order of the file's tables."""
    yield from _listeners(config)
    yield from _tls(config)
    yield from _admin(config)
    yield from _enrollment(config)
    yield from _cas(config)
    yield from _groups(config)
    yield from _labels(config)
    yield from _orders(config)
    yield from _key_stores(config)
    yield from _revocation(config)


def _listeners(config: Config) -> Iterator[ConfigurationError]:
    server = config.server
    if server.admin_listen.collides_with(server.listen):
        yield ConfigurationError(
            "server.admin_listen",
            f"{server.admin_listen} is taken by server.listen ({server.listen}); use another port",
        )
    if server.http_listen is None:
        return
    for key, other in (("listen", server.listen), ("admin_listen", server.admin_listen)):
        if server.http_listen.collides_with(other):
            yield ConfigurationError(
                "server.http_listen", f"{server.http_listen} is taken by server.{key} ({other}); use another port"
            )


def _tls(config: Config) -> Iterator[ConfigurationError]:
    if config.tls.material == "files":
        for name in ("cert", "key"):
            if getattr(config.tls, name) is None:
                yield ConfigurationError(f"tls.{name}", "required")
    if config.tls.material == "self":
        for name in ("cert", "key", "key_password_env", "key_password_file"):
            if getattr(config.tls, name) is not None:
                yield ConfigurationError(f"tls.{name}", 'has no effect, because material is "self"; remove it')
    if config.tls.key_password_env is not None and config.tls.key_password_file is not None:
        yield ConfigurationError("tls.key_password_file", "tls.key_password_env is set too; keep one of them")
    for name in config.tls.tables:
        if name != config.tls.material:
            known = [*type(config.tls).model_fields, config.tls.material]
            yield ConfigurationError(f"tls.{name}", unknown_key(name, known))
    yield from _trust_anchors("tls.client_auth", config.tls.client_auth)


def _admin(config: Config) -> Iterator[ConfigurationError]:
    admin = config.admin.tls
    if (admin.cert is None) != (admin.key is None):
        missing = "cert" if admin.cert is None else "key"
        yield ConfigurationError(f"admin.tls.{missing}", "required, because the other of cert and key is set")
    if config.admin.client_auth is not None:
        yield from _trust_anchors("admin.client_auth", config.admin.client_auth)
    for role in ("operators", "viewers"):
        if getattr(config.admin, role) and not config.has_admin_certificates:
            yield ConfigurationError(
                f"admin.{role}", "has no effect without client certificates: add [admin.client_auth] with trust_anchors"
            )
    yield from _admin_tokens(config)


def _admin_tokens(config: Config) -> Iterator[ConfigurationError]:
    admin = config.admin
    if admin.bearer_token_env is not None and admin.bearer_token_file is not None:
        yield ConfigurationError("admin.bearer_token_file", "admin.bearer_token_env is set too; keep one of them")
    for index, token in enumerate(admin.token):
        if (token.env is None) == (token.file is None):
            yield ConfigurationError(f"admin.token[{index}]", "needs either env or file, and not both")
        if token.name == OWN_TOKEN_NAME:
            problem = f'"{OWN_TOKEN_NAME}" is what the token of [admin] itself is called; choose another name'
            yield ConfigurationError(f"admin.token[{index}].name", problem)
    for index, name in _repeated(token.name for token in admin.token):
        yield ConfigurationError(f"admin.token[{index}].name", f'"{name}" is the name of another token too')


def _trust_anchors(toml_path: str, client_auth: ClientAuth | AdminClientAuth) -> Iterator[ConfigurationError]:
    if client_auth.mode is not ClientAuthMode.NONE and not client_auth.trust_anchors:
        yield ConfigurationError(f"{toml_path}.trust_anchors", f'required, because mode is "{client_auth.mode}"')


def _revocation(config: Config) -> Iterator[ConfigurationError]:
    revocation = config.revocation
    by_crl = revocation.check in {"crl", "ocsp-then-crl"}
    by_ocsp = revocation.check in {"ocsp", "ocsp-then-crl"}
    without_effect = {
        "crls": bool(revocation.crls) and not by_crl,
        "responder": revocation.responder is not None and not by_ocsp,
        "soft_fail": revocation.soft_fail and revocation.check == "none",
    }
    for key, idle in without_effect.items():
        if idle:
            yield ConfigurationError(f"revocation.{key}", f'has no effect, because check is "{revocation.check}"')


def _enrollment(config: Config) -> Iterator[ConfigurationError]:
    present = {policy.use for policy in config.policies}
    tables: list[tuple[str, Enrollment]] = [("enrollment", config.enrollment)]
    tables += [(f"est.label[{index}]", label) for index, label in enumerate(config.est.label)]
    for toml_path, table in tables:
        for key, policy in POLICY_OF_KEY.items():
            if key in table.model_fields_set and policy not in present:
                yield ConfigurationError(
                    f"{toml_path}.{key}", f'has no effect, because the policy "{policy}" is not in policy.order; add it'
                )
        rules = rules_of(config.enrollment, table)
        if rules.subject_binding is SubjectBinding.PATTERN and rules.subject_pattern is None:
            yield ConfigurationError(f"{toml_path}.subject_pattern", 'required, because subject_binding is "pattern"')


def _cas(config: Config) -> Iterator[ConfigurationError]:
    for index, ca_id in _repeated(ca.id for ca in config.ca):
        yield ConfigurationError(f"ca[{index}].id", f'"{ca_id}" is the id of another [[ca]] too')
    defaults = [index for index, ca in enumerate(config.ca) if ca.is_default]
    for index in defaults[1:]:
        yield ConfigurationError(f"ca[{index}].is_default", f"ca[{defaults[0]}] is the default already; keep one")


def _groups(config: Config) -> Iterator[ConfigurationError]:
    known = {ca.id for ca in config.cas}
    taken = known.copy()
    for index, group in enumerate(config.ca_group):
        where = f"ca_group[{index}]"
        if group.id in taken:
            yield ConfigurationError(f"{where}.id", f'"{group.id}" is the id of a [[ca]] or another group too')
        taken.add(group.id)
        for member in group.members:
            if member not in known:
                problem = f'there is no [[ca]] with the id "{member}"; known: {", ".join(sorted(known))}'
                yield ConfigurationError(f"{where}.members", problem)
        for _, member in _repeated(iter(group.members)):
            yield ConfigurationError(f"{where}.members", f'"{member}" is there twice')
        for member in group.weights:
            if member not in group.members:
                yield ConfigurationError(f"{where}.weights", f'"{member}" is not one of members')
        if group.weights and group.strategy is not Strategy.WEIGHTED:
            yield ConfigurationError(f"{where}.weights", 'has no effect: set strategy = "weighted"')


def _labels(config: Config) -> Iterator[ConfigurationError]:
    labels = config.est.label
    names = {"", *(label.name for label in labels)}
    for index, name in _repeated(label.name for label in labels):
        yield ConfigurationError(f"est.label[{index}].name", f'"{name}" is the name of another label too')
    ca_ids = {ca.id for ca in config.cas} | {group.id for group in config.ca_group}
    for index, label in enumerate(labels):
        for key, problem in _label(label, names, ca_ids):
            yield ConfigurationError(f"est.label[{index}].{key}", problem)


def _label(label: EstLabel, names: set[str], ca_ids: set[str]) -> Iterator[tuple[str, str]]:
    if not valid_label_name(label.name):
        operations = ", ".join(Operation)
        yield (
            "name",
            f'"{label.name}" must match {LABEL_PATTERN} and not be renewal-info or an operation ({operations})',
        )
    if label.ca is not None and label.ca not in ca_ids:
        yield "ca", f'there is no [[ca]] or [[ca_group]] with the id "{label.ca}"; known: {", ".join(sorted(ca_ids))}'
    for other in label.accept_from:
        if other not in names:
            yield "accept_from", f'there is no label "{other}"; {unknown_key(other, names - {""}).partition("; ")[2]}'


def _orders(config: Config) -> Iterator[ConfigurationError]:
    orders = [("policy.order", list(config.policy.order))]
    orders.append(("auth.order", [" + ".join(entry) for entry in config.auth.order]))
    orders += [
        (f"est.label[{index}].auth", [" + ".join(entry) for entry in label.auth or ()])
        for index, label in enumerate(config.est.label)
    ]
    for toml_path, names in orders:
        for index, name in _repeated(names):
            yield ConfigurationError(f"{toml_path}[{index}]", f'"{name}" is in the list already')


def _key_stores(config: Config) -> Iterator[ConfigurationError]:
    if config.hsm is not None and "pkcs11" in config.key_store:
        yield ConfigurationError("hsm", "is the short name of [key_store.pkcs11], which is there too; keep one of them")


def _repeated(values: Iterable[str]) -> Iterator[tuple[int, str]]:
    """The index and value of every entry that is there for the second time or later."""
    seen: Counter[str] = Counter()
    for index, value in enumerate(values):
        if seen[value]:
            yield index, value
        seen[value] += 1

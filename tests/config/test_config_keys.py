"""Every key of the file: its default, and that it is read to the right value."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from kipuka_core.config import Config
from kipuka_core.config.reference.walk import is_available, tables
from kipuka_core.config.values import Address
from kipuka_core.model.cipher_suites import DEFAULT_CIPHER_SUITES
from kipuka_core.model.key_type import KeyType

ConfigOf = Callable[..., Config]
ProblemsOf = Callable[[str], list[str]]

SUITES = DEFAULT_CIPHER_SUITES

# key -> default as configuration.md has it, TOML, value read
KEYS: dict[str, tuple[object, str, object]] = {
    "server.listen": (Address("0.0.0.0", 8443), '"[::]:443"', Address("::", 443)),
    "server.admin_listen": (Address("127.0.0.1", 9443), '"admin.example:1"', Address("admin.example", 1)),
    "server.workers": (1, "4", 4),
    "server.max_body_size": (65536, "1000", 1000),
    "server.max_connections": (4096, "10", 10),
    "server.max_connections_per_address": (1024, "11", 11),
    "server.handshake_timeout": (10, '"15m"', 900),
    "server.header_timeout": (10, "25", 25),
    "server.body_timeout": (30, '"1s"', 1),
    "server.idle_timeout": (30, '"24h"', 86400),
    "server.shutdown_timeout": (30, '"90d"', 7776000),
    "server.state_dir": (Path("/var/lib/kipuka"), '"state"', Path("/conf/state")),
    "server.strict_permissions": (False, "true", True),
    "server.proxy_protocol_from": (
        (),
        '["192.0.2.1", "2001:db8::/64"]',
        (ip_network("192.0.2.1"), ip_network("2001:db8::/64")),
    ),
    "tls.cert": (Path("/conf/server.pem"), '"/x.pem"', Path("/x.pem")),
    "tls.key": (Path("/conf/server.key"), '"x/y.key"', Path("/conf/x/y.key")),
    "tls.key_password_env": (None, '"TLS_PASSWORD"', "TLS_PASSWORD"),
    "tls.key_password_file": (None, '"p"', Path("/conf/p")),
    "tls.min_version": ("1.2", '"1.3"', "1.3"),
    "tls.cipher_suites": (SUITES, f'["{SUITES[3]}", "{SUITES[0]}"]', (SUITES[3], SUITES[0])),
    "tls.material": ("files", '"vault"', "vault"),
    "tls.client_auth.mode": ("optional", '"required"', "required"),
    "tls.client_auth.trust_anchors": ((Path("/conf/cas.pem"),), '["a", "/b"]', (Path("/conf/a"), Path("/b"))),
    "tls.client_auth.trust_own_cas": (True, "false", False),
    "admin.bearer_token_env": (None, '"TOKEN"', "TOKEN"),
    "admin.bearer_token_file": (None, '"token"', Path("/conf/token")),
    "admin.client_auth.mode": ("required", '"optional"\ntrust_anchors = "a"', "optional"),
    "admin.client_auth.trust_anchors": ((), '"a"', (Path("/conf/a"),)),
    "admin.console": (True, "false", False),
    "admin.tls.cert": (None, '"c"\nkey = "k"', Path("/conf/c")),
    "admin.tls.key": (None, '"k"\ncert = "c"', Path("/conf/k")),
    "admin.tls.min_version": (None, '"1.3"', "1.3"),
    "admin.tls.cipher_suites": (None, f'["{SUITES[1]}"]', (SUITES[1],)),
    "admin.operators": (
        (),
        '["O=Example,CN=Ana"]\nclient_auth = { trust_anchors = "a" }',
        (x509.Name.from_rfc4514_string("O=Example,CN=Ana"),),
    ),
    "admin.viewers": (
        (),
        '["CN=Ben"]\nclient_auth = { trust_anchors = "a" }',
        (x509.Name.from_rfc4514_string("CN=Ben"),),
    ),
    "server.http_listen": (None, '"0.0.0.0:80"', Address("0.0.0.0", 80)),
    "enrollment.require_proof_of_possession": (True, "false", False),
    "enrollment.channel_binding": ("when-present", '"required"', "required"),
    "enrollment.allowed_key_types": (
        tuple(map(KeyType, ("rsa2048", "rsa3072", "rsa4096", "ecdsa256", "ecdsa384"))),
        '["EC:P256", "ml-dsa-65"]',
        (KeyType.ECDSA256, KeyType.ML_DSA_65),
    ),
    "enrollment.allowed_signature_algorithms": (("sha256", "sha384", "sha512"), '["SHA-384"]', ("sha384",)),
    "enrollment.max_validity_days": (398, "30", 30),
    "enrollment.require_san": (False, "true", True),
    "enrollment.accept_ca_profile": (False, "true", True),
    "enrollment.accept_ca_validity": (False, "true", True),
    "enrollment.subject_binding": ("identity", '"any"', "any"),
    "enrollment.subject_pattern": (None, "'{id}\\.example'", r"{id}\.example"),
    "enrollment.key_usage": (None, '["keyagreement", "nonRepudiation"]', ("keyAgreement", "contentCommitment")),
    "enrollment.ext_key_usage": (
        ("1.3.6.1.5.5.7.3.2",),
        '["serverAuth", "ipsecIKE", "1.2.3.4"]',
        ("1.3.6.1.5.5.7.3.1", "1.3.6.1.5.5.7.3.17", "1.2.3.4"),
    ),
    "enrollment.allowed_extensions": (
        ("2.5.29.17", "2.5.29.15", "2.5.29.37"),
        '["subjectAltName", "1.2.3"]',
        ("2.5.29.17", "1.2.3"),
    ),
    "est.base_path": ("/.well-known/est", '"/est"', "/est"),
    "est.retry_after": (60, '"5m"', 300),
    "est.csr_attributes": ((), '["1.2.840.113549.1.9.7"]', ("1.2.840.113549.1.9.7",)),
    "auth.order": (
        (("mtls",), ("otp",)),
        '["otp", ["mtls", "basic"]]',
        (("otp",), ("mtls", "basic")),
    ),
    "policy.order": (("keys", "names", "extensions", "validity"), '["keys", "mine"]', ("keys", "mine")),
    "plugins.enable": ((), '["hsm"]', ("hsm",)),
    "plugins.timeout": (10, '"3s"', 3),
    "db.url": (None, '"postgresql://db/kipuka"', "postgresql://db/kipuka"),
    "revocation.check": ("none", '"ocsp-then-crl"', "ocsp-then-crl"),
    "revocation.crls": (
        (),
        '["a.crl", "http://c.example/b.crl"]\ncheck = "crl"',
        (Path("/conf/a.crl"), "http://c.example/b.crl"),
    ),
    "revocation.responder": (None, '"http://o.example"\ncheck = "ocsp"', "http://o.example"),
    "revocation.soft_fail": (False, 'true\ncheck = "crl"', True),
    "revocation.cache_ttl": (300, '"6m"', 360),
    "revocation.timeout": (10, '"11s"', 11),
    "retention.certificates": (None, '"365d"', 31536000),
    "retention.requests": (None, '"90d"', 7776000),
    "retention.otps": (None, '"1d"', 86400),
    "retention.events": (None, "60", 60),
    "retention.archive_dir": (None, '"old"', Path("/conf/old")),
    "retention.interval": (3600, '"24h"', 86400),
    "revocation.accept_unrecorded": (False, "true", True),
    "audit.anonymous_in_full": (10, "3", 3),
}
# keys of tables in lists: default, TOML, value read
ITEM_KEYS: dict[str, tuple[object, str, object]] = {
    "est.label.ca": (None, 'ca = "default"', "default"),
    "est.label.auth": (None, 'auth = [["mtls", "otp"]]', (("mtls", "otp"),)),
    "est.label.renew_from": ("own", 'renew_from = "trusted"', "trusted"),
    "est.label.accept_from": ((), 'accept_from = [""]', ("",)),
    "est.label.san_carry_over": (False, "san_carry_over = true", True),
    "est.label.allow_name_change": (False, "allow_name_change = true", True),
    "est.label.approval": (False, "approval = true", True),
    "ca.give_up_after": (604_800, 'give_up_after = "1d"', 86_400),
    "ca_group.strategy": ("ordered", 'strategy = "round-robin"', "round-robin"),
    "ca_group.weights": ({}, 'strategy = "weighted"\nweights = {default = 2}', {"default": 2}),
    "ca_group.failures": (3, "failures = 5", 5),
    "ca_group.cool_down": (30, 'cool_down = "2m"', 120),
    "ca.backend": ("local", 'backend = "acme"', "acme"),
    "ca.is_default": (False, "is_default = true", True),
    "audit.sink.use": ("jsonl", 'use = "syslog"', "syslog"),
    "audit.sink.required": (True, "required = false", False),
}
REQUIRED_IN_ITEMS = {
    "est.label": 'name = "factory"',
    "ca": 'id = "one"',
    "audit.sink": "",
    "ca_group": 'id = "all"\nmembers = ["default"]',
}
# keys without their feature
UNAVAILABLE_AT_LABELS = ("serverkeygen", "fullcmc", "ra_clients")


def _value(config: Config, path: str) -> Any:
    return reduce(getattr, path.split("."), config)


def _toml(path: str, value: str) -> str:
    table, _, key = path.rpartition(".")
    return f"[{table}]\n{key} = {value}"


@pytest.mark.parametrize("path", KEYS)
def test_a_key_has_the_documented_default_and_is_read(config_of: ConfigOf, path: str) -> None:
    default, written, read = KEYS[path]
    if path.startswith("admin.client_auth"):
        silent = config_of('[admin.client_auth]\nmode = "none"' if path.endswith("anchors") else ADMIN_ANCHORS)
    else:
        silent = config_of()
    assert _value(silent, path) == default
    assert _value(config_of(_toml(path, written)), path) == read


ADMIN_ANCHORS = '[admin.client_auth]\ntrust_anchors = "a"'


@pytest.mark.parametrize("path", ITEM_KEYS)
def test_a_key_of_a_listed_table_has_the_documented_default_and_is_read(config_of: ConfigOf, path: str) -> None:
    default, written, read = ITEM_KEYS[path]
    table, _, key = path.rpartition(".")
    head = f"[[{table}]]\n{REQUIRED_IN_ITEMS[table]}\n"
    assert getattr(_value(config_of(head), table)[0], key) == default
    assert getattr(_value(config_of(head + written), table)[0], key) == read


@pytest.mark.parametrize("key", UNAVAILABLE_AT_LABELS)
def test_a_label_key_without_its_feature_is_refused_and_its_default_accepted(
    config_of: ConfigOf, problems_of: ProblemsOf, key: str
) -> None:
    label = '[[est.label]]\nname = "factory"\n'
    assert problems_of(f"{label}{key} = true") == [f"est.label[0].{key}: not available yet"]
    config_of(f"{label}{key} = false")


def test_bearer_tokens_are_read(config_of: ConfigOf) -> None:
    assert config_of().admin.token == ()
    tokens = '[[admin.token]]\nname = "a"\nrole = "viewer"\nenv = "T"\n'
    tokens += '[[admin.token]]\nname = "b"\nrole = "operator"\nfile = "t"\n'
    config = config_of(f'[admin]\nbearer_token_env = "OWN"\n{tokens}')
    assert [(each.name, each.role, each.env, each.file) for each in config.admin_tokens] == [
        ("operator", "operator", "OWN", None),
        ("a", "viewer", "T", None),
        ("b", "operator", None, Path("/conf/t")),
    ]
    assert config.has_admin_credential
    assert not config.has_admin_certificates


def test_no_key_is_without_a_test() -> None:
    tested = {*KEYS, *ITEM_KEYS, *(f"est.label.{key}" for key in UNAVAILABLE_AT_LABELS)}
    elsewhere = {"est.label.name", "ca.id", "ca_group.id", "ca_group.members", "auth.NAME.use", "policy.NAME.use"}
    elsewhere |= {"admin.token", *(f"admin.token.{key}" for key in ("name", "role", "env", "file"))}  # below
    known = {f"{table.path}.{key}" for table in tables({}) for key in table.keys}
    assert known - elsewhere - tested == set()


def test_every_key_is_described() -> None:
    for table in tables({}):
        for key, field in table.keys.items():
            assert field.description, f"{table.path}.{key}"


def test_what_the_models_call_unavailable_is_what_is_refused() -> None:
    marked = {
        f"{table.path}.{key}" for table in tables({}) for key, field in table.keys.items() if not is_available(field)
    }
    assert marked == {f"est.label.{key}" for key in UNAVAILABLE_AT_LABELS}

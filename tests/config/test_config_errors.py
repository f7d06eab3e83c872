"""What is wrong is said in one line each, with its path, its nearest known key, and no secret."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import Field, SecretStr

from kipuka_core.config import Config, ConfigurationErrors, parse, validate_table
from kipuka_core.errors import ConfigurationError
from kipuka_core.hooks.provider import Settings

ConfigOf = Callable[..., Config]
ProblemsOf = Callable[[str], list[str]]

FILE = Path("/conf/kipuka.toml")
GROUP = '[[ca]]\nid = "one"\n[[ca_group]]\nid = "all"\n'
LABEL = '[[est.label]]\nname = "factory"\n'
CA = '[[ca]]\nid = "one"\n'

ONE_LINE = {
    # keys
    "[server]\nlisen = 1": 'server.lisen: unknown key; did you mean "listen"?',
    "[sever]": 'sever: unknown key; did you mean "server"?',
    "[tls.client_auth]\ntrust_anchor = 1": 'tls.client_auth.trust_anchor: unknown key; did you mean "trust_anchors"?',
    f"{LABEL}rekuire_san = true": 'est.label[0].rekuire_san: unknown key; did you mean "require_san"?',
    '[auth]\nordre = ["otp"]': 'auth.ordre: unknown key; did you mean "order"?',
    "[db]\nwat = 1": "db.wat: unknown key; known here: url",
    '[server]\n"a b" = 1\n': 'server."a b": unknown key; known here: listen',
    # types: TOML has them, so nothing is guessed
    '[server]\nworkers = "2"': "server.workers: must be a whole number",
    "[server]\nworkers = 0": "server.workers: must be at least 1",
    "[server]\nworkers = 1.5": "server.workers: must be a whole number",
    "[server]\nstate_dir = 1": "server.state_dir: must be a path in quotes",
    '[server]\nstrict_permissions = "yes"': "server.strict_permissions: must be true or false",
    "[server]\nstrict_permissions = 1": "server.strict_permissions: must be true or false",
    "server = 1": "server: must be a table",
    "[plugins]\nenable = 1": "plugins.enable: must be a list",
    "[plugins]\nenable = [1]": "plugins.enable[0]: must be text in quotes",
    '[tls]\nmin_version = "1.1"': (
        'tls.min_version: must be "1.2" or "1.3": TLS 1.0 and 1.1 must not be used (RFC 8996)'
    ),
    '[admin.tls]\nmin_version = "1.0"': 'admin.tls.min_version: must be "1.2" or "1.3": TLS 1.0 and 1.1 must not',
    "[tls]\nmin_version = 1.3": "tls.min_version: must be text in quotes",
    '[tls.client_auth]\nmode = "maybe"': 'tls.client_auth.mode: must be "required", "optional" or "none"',
    # values
    '[server]\nlisten = "8443"': 'server.listen: must be host:port, such as "0.0.0.0:8443" or "[::]:8443"',
    '[server]\nlisten = "::1:8443"': 'server.listen: must be host:port, such as "0.0.0.0:8443" or "[::]:8443"',
    '[server]\nlisten = "a:65536"': 'server.listen: must be host:port, such as "0.0.0.0:8443" or "[::]:8443"',
    '[server]\nlisten = "[1::2::3]:1"': "server.listen: [1::2::3] is not an IPv6 address",
    '[server]\nidle_timeout = "5"': 'server.idle_timeout: write a duration like "30s"',
    "[server]\nidle_timeout = true": 'server.idle_timeout: write a duration like "30s"',
    "[server]\nidle_timeout = 0": "server.idle_timeout: must be at least 1",
    "[server]\nidle_timeout = inf": "server.idle_timeout: write a duration like",
    "[server]\nidle_timeout = nan": "server.idle_timeout: write a duration like",
    "[est]\nretry_after = 1.5": "est.retry_after: write a duration like",
    '[est]\nbase_path = "est"': 'est.base_path: must begin with "/"',
    '[est]\nbase_path = "/est/"': 'est.base_path: must begin with "/"',
    '[est]\nbase_path = "/e?t"': "est.base_path: must not contain",
    '[est]\ncsr_attributes = ["x"]': 'est.csr_attributes[0]: "x" is not a dotted object identifier',
    '[tls]\ncipher_suites = ["TLS_RSA_WITH_NULL_SHA"]': (
        "tls.cipher_suites[0]: TLS_RSA_WITH_NULL_SHA cannot be used: it encrypts nothing; possible for TLS 1.2 are "
        "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, "
    ),
    '[tls]\ncipher_suites = ["TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA"]': (
        "tls.cipher_suites[0]: TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA cannot be used: CBC suites have no authenticated"
    ),
    '[tls]\ncipher_suites = ["TLS_RSA_WITH_AES_128_GCM_SHA256"]': (
        "tls.cipher_suites[0]: TLS_RSA_WITH_AES_128_GCM_SHA256 cannot be used: RSA key exchange has no forward secrecy"
    ),
    '[tls]\ncipher_suites = ["TLS_ECDH_anon_WITH_AES_128_CBC_SHA"]': (
        "tls.cipher_suites[0]: TLS_ECDH_anon_WITH_AES_128_CBC_SHA cannot be used: it authenticates nobody"
    ),
    '[tls]\ncipher_suites = ["TLS_AES_128_GCM_SHA256"]': (
        "tls.cipher_suites[0]: TLS_AES_128_GCM_SHA256 cannot be used: it is a suite of TLS 1.3"
    ),
    '[tls]\ncipher_suites = ["ECDHE-RSA-AES128-GCM-SHA256"]': (
        "tls.cipher_suites[0]: ECDHE-RSA-AES128-GCM-SHA256 cannot be used: "
        "the IANA name is TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"
    ),
    '[admin.tls]\ncipher_suites = ["TLS_X"]': "admin.tls.cipher_suites[0]: TLS_X cannot be used: kipuka does not know",
    "[tls]\ncipher_suites = []": "tls.cipher_suites: must not be empty",
    "[enrollment]\nallowed_key_types = []": "enrollment.allowed_key_types: must not be empty",
    '[enrollment]\nallowed_key_types = ["rsa1024"]': (
        "enrollment.allowed_key_types[0]: unknown key type 'rsa1024'; known are"
    ),
    '[enrollment]\nallowed_signature_algorithms = ["sha1"]': (
        'enrollment.allowed_signature_algorithms[0]: "sha1" is not accepted; possible are sha256, sha384, sha512'
    ),
    '[enrollment]\next_key_usage = ["clientAut"]': (
        'enrollment.ext_key_usage[0]: unknown name "clientAut"; write a dotted object identifier or one of serverAuth'
    ),
    "[enrollment]\next_key_usage = []": "enrollment.ext_key_usage: must not be empty",
    '[enrollment]\nkey_usage = ["sign"]': 'enrollment.key_usage[0]: unknown key usage "sign"; known are digitalSign',
    '[enrollment]\nallowed_extensions = ["1"]': 'enrollment.allowed_extensions[0]: "1" is not a dotted object',
    "[enrollment]\nmax_validity_days = 0": "enrollment.max_validity_days: must be at least 1",
    "[enrollment]\nsubject_pattern = '{id}('": "enrollment.subject_pattern: is not a regular expression",
    "[enrollment]\nsubject_pattern = 'x'": 'enrollment.subject_pattern: must contain "{id}"',
    '[[ca]]\nid = "A"': "ca[0].id: must match ^[a-z0-9][a-z0-9_-]*$",
    "[[ca]]": "ca[0].id: required",
    "[auth.otp]\nuse = 1": "auth.otp.use: must be text in quotes",
    '[db]\nurl = "mysql://u:hunter2@db/x"': 'db.url: must begin with "sqlite:///" or "postgresql://"',
    '[db]\nurl = "sqlite://"': "db.url: must name a file",
    '[db]\nurl = "sqlite:///:memory:"': "db.url: must name a file",
    '[server]\nproxy_protocol_from = ["lb.example"]': (
        'server.proxy_protocol_from: "lb.example" is neither an IP address nor a network such as "192.0.2.0/24"'
    ),
    '[server]\nproxy_protocol_from = ["192.0.2.1/24"]': 'server.proxy_protocol_from: "192.0.2.1/24" is neither',
    "[server]\nproxy_protocol_from = 1": "server.proxy_protocol_from: must be a list",
    '[admin]\noperators = ["Ana"]\nclient_auth = { trust_anchors = "a" }': (
        'admin.operators[0]: "Ana" is not an RFC 4514 subject such as "CN=Ana,O=Example"'
    ),
    '[admin]\nviewers = [""]\nclient_auth = { trust_anchors = "a" }': "admin.viewers[0]: must be a subject such as",
    '[revocation]\ncheck = "maybe"': 'revocation.check: must be "none", "crl", "ocsp" or "ocsp-then-crl"',
    '[revocation]\ncheck = "crl"\ncrls = ["ldap://x/y"]': (
        'revocation.crls[0]: must be a URL that begins with "http://" or "https://"'
    ),
    '[revocation]\ncheck = "ocsp"\nresponder = "ocsp.example"': "revocation.responder: must be a URL that begins with",
    # between keys
    '[server]\nadmin_listen = "0.0.0.0:8443"': (
        "server.admin_listen: 0.0.0.0:8443 is taken by server.listen (0.0.0.0:8443); use another port"
    ),
    '[server]\nadmin_listen = "127.0.0.1:8443"': "server.admin_listen: 127.0.0.1:8443 is taken by server.listen",
    '[tls]\nkey_password_env = "A"\nkey_password_file = "b"': "tls.key_password_file: tls.key_password_env is set too",
    '[admin.tls]\ncert = "c"': "admin.tls.key: required, because the other of cert and key is set",
    "[tls.client_auth]\ntrust_anchors = []": 'tls.client_auth.trust_anchors: required, because mode is "optional"',
    '[admin]\noperators = ["CN=Ana"]': "admin.operators: has no effect without client certificates: add [admin.client",
    "[tls.client_aut]": 'tls.client_aut: unknown key; did you mean "client_auth"?',
    '[tls]\nmaterial = "vault"\n[tls.valt]': 'tls.valt: unknown key; did you mean "vault"?',
    '[tls]\nciphers = "x"': 'tls.ciphers: unknown key; did you mean "cipher_suites"?',
    '[revocation]\ncrls = ["a.crl"]': 'revocation.crls: has no effect, because check is "none"',
    '[revocation]\ncheck = "ocsp"\ncrls = "a.crl"': 'revocation.crls: has no effect, because check is "ocsp"',
    '[revocation]\ncheck = "crl"\nresponder = "http://o"': "revocation.responder: has no effect, because check",
    "[revocation]\nsoft_fail = true": 'revocation.soft_fail: has no effect, because check is "none"',
    "[admin.client_auth]": 'admin.client_auth.trust_anchors: required, because mode is "required"',
    f"{CA}[[ca]]\nid = 'one'": 'ca[1].id: "one" is the id of another [[ca]] too',
    f"{CA}is_default = true\n[[ca]]\nid = 'b'\nis_default = true": "ca[1].is_default: ca[0] is the default already",
    f"{LABEL}{LABEL}": 'est.label[1].name: "factory" is the name of another label too',
    '[[est.label]]\nname = "a/b"': 'est.label[0].name: "a/b" must match ',
    '[[est.label]]\nname = ""': 'est.label[0].name: "" must match ',
    '[[est.label]]\nname = "simpleenroll"': 'est.label[0].name: "simpleenroll" must match ',
    '[[est.label]]\nname = "renewal-info"': 'est.label[0].name: "renewal-info" must match ',
    f'{LABEL}ca = "two"': 'est.label[0].ca: there is no [[ca]] or [[ca_group]] with the id "two"; known: default',
    f'{GROUP}members = ["one", "two"]': 'ca_group[0].members: there is no [[ca]] with the id "two"; known: one',
    f'{GROUP}members = ["one", "one"]': 'ca_group[0].members: "one" is there twice',
    f"{GROUP}members = []": "ca_group[0].members: must not be empty",
    f'{GROUP}members = ["one"]\nweights = {{one = 2}}': 'ca_group[0].weights: has no effect: set strategy = "weighted"',
    f'{GROUP}members = ["one"]\nstrategy = "weighted"\nweights = {{two = 2}}': (
        'ca_group[0].weights: "two" is not one of members'
    ),
    '[[ca]]\nid = "one"\n[[ca_group]]\nid = "one"\nmembers = ["one"]': (
        'ca_group[0].id: "one" is the id of a [[ca]] or another group too'
    ),
    f'{CA}{LABEL}ca = "default"': (
        'est.label[0].ca: there is no [[ca]] or [[ca_group]] with the id "default"; known: one'
    ),
    f'{LABEL}accept_from = ["factori"]': (
        'est.label[0].accept_from: there is no label "factori"; did you mean "factory"?'
    ),
    "[auth]\norder = []": "auth.order: must not be empty",
    "[auth]\norder = [[]]": "auth.order[0]: must not be empty",
    '[auth]\norder = ["otp", "otp"]': 'auth.order[1]: "otp" is in the list already',
    f"{LABEL}auth = []": "est.label[0].auth: must not be empty",
    "[policy]\norder = []": "policy.order: must not be empty",
    '[policy]\norder = ["keys", "keys"]': 'policy.order[1]: "keys" is in the list already',
    '[admin]\nbearer_token_env = "T"\nbearer_token_file = "t"': (
        "admin.bearer_token_file: admin.bearer_token_env is set too; keep one of them"
    ),
    '[[admin.token]]\nname = "a"\nrole = "viewer"': "admin.token[0]: needs either env or file, and not both",
    '[[admin.token]]\nname = "a"\nrole = "root"\nenv = "T"': "admin.token[0].role: ",
    '[[admin.token]]\nname = "operator"\nrole = "viewer"\nenv = "T"': (
        'admin.token[0].name: "operator" is what the token of [admin] itself is called'
    ),
    2 * '[[admin.token]]\nname = "a"\nrole = "viewer"\nenv = "T"\n': (
        'admin.token[1].name: "a" is the name of another token too'
    ),
    '[admin]\nbearer_token_env = "T"\noperators = ["CN=Ana"]': "admin.operators: has no effect without client cert",
    "[hsm]\n[key_store.pkcs11]": "hsm: is the short name of [key_store.pkcs11], which is there too",
    '[enrollment]\nsubject_binding = "pattern"': (
        'enrollment.subject_pattern: required, because subject_binding is "pattern"'
    ),
    f'{LABEL}subject_binding = "pattern"': (
        'est.label[0].subject_pattern: required, because subject_binding is "pattern"'
    ),
}


@pytest.mark.parametrize("toml", ONE_LINE)
def test_one_mistake_is_one_line(problems_of: ProblemsOf, toml: str) -> None:
    (line,) = problems_of(toml)
    assert line.startswith(ONE_LINE[toml])
    assert "hunter2" not in line
    assert "\n" not in line


@pytest.mark.parametrize(
    ("key", "value", "policy"),
    [
        ("allowed_key_types", '["rsa2048"]', "keys"),
        ("allowed_signature_algorithms", '["sha256"]', "keys"),
        ("require_san", "false", "names"),
        ("subject_binding", '"any"', "names"),
        ("subject_pattern", '"{id}"', "names"),
        ("max_validity_days", "398", "validity"),
        ("key_usage", '["digitalSignature"]', "extensions"),
        ("ext_key_usage", '["clientAuth"]', "extensions"),
        ("allowed_extensions", "[]", "extensions"),
    ],
)
def test_an_enrollment_key_whose_policy_is_not_in_the_order_is_an_error(
    config_of: ConfigOf, problems_of: ProblemsOf, key: str, value: str, policy: str
) -> None:
    others = [name for name in ("keys", "names", "extensions", "validity") if name != policy]
    order = f"[policy]\norder = {others}\n"
    problem = f'{key}: has no effect, because the policy "{policy}" is not in policy.order; add it'
    assert problems_of(f"{order}[enrollment]\n{key} = {value}") == [f"enrollment.{problem}"]
    assert problems_of(f"{order}{LABEL}{key} = {value}") == [f"est.label[0].{problem}"]
    config_of(order)
    config_of(f'{order[:-2]}, "mine"]\n[policy.mine]\nuse = "{policy}"\n[enrollment]\n{key} = {value}')


def test_every_mistake_is_shown_at_once(problems_of: ProblemsOf) -> None:
    assert problems_of("[server]\nworkers = 0\nlisen = 1\n[enrollment]\nrequire_san = 1") == [
        "server.workers: must be at least 1",
        'server.lisen: unknown key; did you mean "listen"?',
        "enrollment.require_san: must be true or false",
    ]


def test_a_certificate_and_key_are_required_for_the_files_material() -> None:
    with pytest.raises(ConfigurationErrors, match=r"tls\.cert: required\ntls\.key: required"):
        parse({"tls": {"client_auth": {"mode": "none"}}}, FILE)
    parse({"tls": {"material": "vault", "client_auth": {"mode": "none"}}}, FILE)


class _PluginSettings(Settings):
    pin: SecretStr | None = None
    users_file: Path = Path("users")
    more: tuple[Path, ...] = ()
    count: int | list[int] = Field(default=1)


def test_a_plugins_table_is_checked_with_its_path_and_its_paths_become_absolute() -> None:
    table = {"more": ["/x", "y"]}
    settings = validate_table(_PluginSettings, table, "auth.basic", base_dir=Path("/conf"))
    assert settings.users_file == Path("/conf/users")
    assert settings.more == (Path("/x"), Path("/conf/y"))


@pytest.mark.parametrize(
    ("table", "line"),
    [
        ({"pim": "1234"}, 'hsm.pim: unknown key; did you mean "pin"?'),
        ({"uses": "1234"}, 'hsm.uses: unknown key; did you mean "use"?'),
        ({"pin": 1234}, "hsm.pin: must be text in quotes"),
        ({"users_file": 1234}, "hsm.users_file: must be a path in quotes"),
    ],
)
def test_a_mistake_in_a_plugins_table_never_shows_the_value(table: dict[str, object], line: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        validate_table(_PluginSettings, table, "hsm", base_dir=Path("/conf"), other_keys=("use",))
    assert str(caught.value) == line
    assert "1234" not in repr(caught.value)
    assert caught.value.__context__ is None


def test_the_path_of_a_mistake_has_only_keys_of_the_file() -> None:
    with pytest.raises(ConfigurationError) as caught:
        validate_table(_PluginSettings, {"count": "x"}, "auth.basic", base_dir=Path("/conf"))
    assert {line.partition(":")[0] for line in str(caught.value).splitlines()} == {"auth.basic.count"}


def test_a_configuration_shows_no_secret_of_a_plugin_or_database(config_of: ConfigOf) -> None:
    config = config_of(
        '[auth.otp]\npin = "hunter2"\n[key_store.x]\npin = "hunter2"\n[hsm]\npin = "hunter2"\n'
        '[plugin.x]\nk = "hunter2"\n'
        '[[ca]]\nid = "a"\npin = "hunter2"\n[db]\nurl = "postgresql://u:hunter2@h/d"\n[[audit.sink]]\nk = "hunter2"'
    )
    shown = repr(config) + str(config)
    shown += repr((config.authenticators, config.key_stores, config.ca_backends, config.event_sinks))
    assert "hunter2" not in shown
    assert config.ca_backends[0].settings == {"pin": "hunter2"}

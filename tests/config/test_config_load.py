"""Finding and reading the file, and what follows from several keys."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest

from kipuka_core.config import Config, default_toml, embedded_ca, labels, load, warnings
from kipuka_core.config.values import Address
from kipuka_core.errors import ConfigurationError
from kipuka_core.model.cipher_suites import DEFAULT_CIPHER_SUITES
from kipuka_core.model.label import EnrollmentRules, RenewFrom

ConfigOf = Callable[..., Config]

MINIMAL = """
[server]
listen = "127.0.0.1:0"
[tls]
cert = "server.pem"
key = "server.key"
[tls.client_auth]
trust_anchors = "cas.pem"
"""


def write(path: Path, text: str = MINIMAL) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_the_named_file_wins_over_the_variable_and_that_over_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named, variable, local = (write(tmp_path / name / "kipuka.toml") for name in ("named", "variable", "local"))
    monkeypatch.chdir(local.parent)
    assert load(named, {"KIPUKA_CONFIG": str(variable)}).path == named
    assert load(None, {"KIPUKA_CONFIG": str(variable)}).path == variable
    assert load(None, {"KIPUKA_CONFIG": ""}).path == local


def test_the_system_file_comes_last_and_nothing_at_all_names_what_was_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    system = tmp_path / "etc" / "kipuka.toml"
    # the package has a function of the same name as the module
    monkeypatch.setattr(import_module("kipuka_core.config.load"), "SYSTEM_FILE", system)
    with pytest.raises(ConfigurationError) as caught:
        load(None, {})
    assert "KIPUKA_CONFIG is not set" in str(caught.value)
    assert str(tmp_path / "kipuka.toml") in str(caught.value)
    assert str(system) in str(caught.value)
    write(system)
    assert load(None, {}).path == system


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load(tmp_path / "none.toml", {})
    assert str(caught.value) == f"{tmp_path / 'none.toml'}: cannot be read: No such file or directory"


def test_a_mistake_in_the_syntax_names_file_and_line(tmp_path: Path) -> None:
    path = write(tmp_path / "kipuka.toml", "[server]\nlisten = \n")
    with pytest.raises(ConfigurationError) as caught:
        load(path, {})
    assert caught.value.where == str(path)
    assert caught.value.problem.startswith("line 2, column 10: ")


def test_a_statement_cut_short_at_the_end_of_the_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="end of document: "):
        load(write(tmp_path / "kipuka.toml", "a = ["), {})


@pytest.mark.parametrize("content", [b'a = "\xff"', b"a = " + b"[" * 100_000, b"a = " + b"9" * 5000])
def test_what_is_not_a_text_file_is_an_error_and_no_traceback(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "kipuka.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigurationError) as caught:
        load(path, {})
    assert caught.value.where == str(path)


def test_relative_paths_are_relative_to_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "conf" / "kipuka.toml", MINIMAL + '[db]\nurl = "sqlite:///data/k.db"')
    monkeypatch.chdir(tmp_path)
    config = load(Path("conf/kipuka.toml"), {})
    base = tmp_path / "conf"
    assert config.base_dir == base
    assert config.tls.cert == base / "server.pem"
    assert config.tls.client_auth.trust_anchors == (base / "cas.pem",)
    assert config.database_url == f"sqlite:///{base}/data/k.db"


def test_the_state_directory_of_the_environment_wins(tmp_path: Path) -> None:
    path = write(tmp_path / "kipuka.toml", MINIMAL.replace("[tls]", 'state_dir = "state"\n[tls]'))
    assert load(path, {}).server.state_dir == tmp_path / "state"
    config = load(path, {"KIPUKA_STATE_DIR": "/elsewhere"})
    assert config.server.state_dir == Path("/elsewhere")
    assert config.database_url == "sqlite:////elsewhere/kipuka.db"
    assert config.cas[0].settings["cert"] == "/elsewhere/ca/issuing.pem"


def test_three_tables_are_a_whole_configuration_with_the_embedded_ca(tmp_path: Path) -> None:
    config = load(write(tmp_path / "kipuka.toml"), {})
    assert config.has_embedded_ca
    assert config.cas == (embedded_ca(Path("/var/lib/kipuka")),)
    (table,) = config.ca_backends
    assert (table.name, table.use) == ("default", "local")
    assert table.settings == {
        "cert": "/var/lib/kipuka/ca/issuing.pem",
        "key": "/var/lib/kipuka/ca/issuing.key",
        "chain": "/var/lib/kipuka/ca/root.pem",
    }
    assert [table.use for table in config.event_sinks] == ["jsonl"]
    assert [table.name for table in config.key_stores] == ["file"]


def test_named_cas_replace_the_embedded_one_and_hand_the_rest_of_their_table_on(config_of: ConfigOf) -> None:
    config = config_of('[[ca]]\nid = "a"\nkey = "pkcs11:x"\n[[ca]]\nid = "b"\nbackend = "acme"\nis_default = true')
    assert not config.has_embedded_ca
    assert config.default_ca.id == "b"
    first, second = config.ca_backends
    assert (first.name, first.use, first.settings, first.toml_path) == ("a", "local", {"key": "pkcs11:x"}, "ca[0]")
    assert (second.name, second.use, second.settings, second.toml_path) == ("b", "acme", {}, "ca[1]")
    assert config_of('[[ca]]\nid = "a"\n[[ca]]\nid = "b"').default_ca.id == "a"


def test_providers_are_found_by_the_word_use_or_by_their_own_name(config_of: ConfigOf) -> None:
    config = config_of(
        '[auth]\norder = ["otp", ["mtls", "staff"]]\n[auth.staff]\nuse = "basic"\nusers_file = "u"\n'
        '[[est.label]]\nname = "x"\nauth = ["saml"]\n[policy]\norder = ["mine"]\n[policy.mine]\nuse = "keys"\nk = 1'
    )
    assert [(table.name, table.use, table.toml_path) for table in config.authenticators] == [
        ("otp", "otp", "auth.otp"),
        ("mtls", "mtls", "auth.mtls"),
        ("staff", "basic", "auth.staff"),
        ("saml", "saml", "auth.saml"),
    ]
    assert config.authenticators[2].settings == {"users_file": "u"}
    (policy,) = config.policies
    assert (policy.name, policy.use, policy.settings) == ("mine", "keys", {"k": 1})


def test_hsm_is_the_short_name_of_the_pkcs11_key_store(config_of: ConfigOf) -> None:
    for toml, path in (("[hsm]\nmodule = 'm'", "hsm"), ("[key_store.pkcs11]\nmodule = 'm'", "key_store.pkcs11")):
        table = {table.name: table for table in config_of(toml).key_stores}["pkcs11"]
        assert table.settings == {"module": "m"}
        assert table.toml_path == path


def test_tables_of_other_plugins_are_handed_on(config_of: ConfigOf) -> None:
    assert config_of("[plugin.notify]\nurl = 'x'").plugin == {"notify": {"url": "x"}}


def test_an_event_sink_gets_the_rest_of_its_table(config_of: ConfigOf) -> None:
    config = config_of('[[audit.sink]]\nuse = "syslog"\naddress = "a"\n[[audit.sink]]\nuse = "stdout"')
    assert [(table.use, table.settings, table.toml_path) for table in config.event_sinks] == [
        ("syslog", {"address": "a"}, "audit.sink[0]"),
        ("stdout", {}, "audit.sink[1]"),
    ]


def test_the_admin_listener_has_the_tls_of_the_est_listener_except_for_its_own_keys(config_of: ConfigOf) -> None:
    same = config_of('[tls]\nmin_version = "1.3"\nkey_password_env = "P"').admin_tls
    assert (same.cert, same.key, same.min_version) == (Path("/conf/server.pem"), Path("/conf/server.key"), "1.3")
    config = config_of('[admin.tls]\ncert = "a.pem"\nkey = "a.key"')
    assert (config.admin_tls.cert, config.admin_tls.min_version) == (Path("/conf/a.pem"), "1.2")
    material = config.admin_tls_material
    assert material.settings == {"cert": Path("/conf/a.pem"), "key": Path("/conf/a.key")}
    assert (material.use, material.toml_path) == ("files", "admin.tls")
    assert config.tls_material.settings == {"cert": Path("/conf/server.pem"), "key": Path("/conf/server.key")}


def test_listeners_on_free_ports_never_collide(config_of: ConfigOf) -> None:
    config = config_of('[server]\nlisten = "127.0.0.1:0"\nadmin_listen = "127.0.0.1:0"')
    assert config.server.listen == config.server.admin_listen == Address("127.0.0.1", 0)
    assert str(Address("::1", 80)) == "[::1]:80"


def test_the_door_without_a_label_comes_first_and_has_the_rules_of_enrollment(config_of: ConfigOf) -> None:
    (door,) = labels(config_of())
    assert (door.name, door.ca_id, door.rules) == ("", "default", EnrollmentRules())
    assert door.auth_order == (("mtls",), ("otp",))
    assert (door.renew_from, door.accept_from, door.retry_after_seconds) == (RenewFrom.OWN, (), 60)


def test_a_label_overrides_what_it_says_and_nothing_else(config_of: ConfigOf) -> None:
    config = config_of(
        '[est]\nretry_after = 5\ncsr_attributes = ["1.2.3"]\n[enrollment]\nrequire_san = true\nmax_validity_days = 10\n'
        '[[ca]]\nid = "a"\n[[ca]]\nid = "b"\n'
        '[[est.label]]\nname = "x"\nca = "b"\nauth = ["otp"]\nmax_validity_days = 398\nrenew_from = "trusted"\n'
        'accept_from = ["y"]\nsan_carry_over = true\nallow_name_change = true\n[[est.label]]\nname = "y"'
    )
    nameless, first, second = labels(config)
    assert (nameless.name, first.name, second.name) == ("", "x", "y")
    assert (nameless.ca_id, first.ca_id, second.ca_id) == ("a", "b", "a")
    assert first.rules == EnrollmentRules(require_san=True)
    assert second.rules == nameless.rules == EnrollmentRules(require_san=True, max_validity_days=10)
    assert (first.auth_order, second.auth_order) == ((("otp",),), (("mtls",), ("otp",)))
    assert (first.renew_from, first.accept_from) == (RenewFrom.TRUSTED, ("y",))
    assert first.san_carry_over
    assert first.allow_name_change
    assert not second.san_carry_over
    assert not second.allow_name_change
    assert {label.retry_after_seconds for label in labels(config)} == {5}
    assert {label.csr_attributes for label in labels(config)} == {("1.2.3",)}


ADMIN = '[admin.client_auth]\ntrust_anchors = "a"\n'


@pytest.mark.parametrize(
    ("toml", "beginning"),
    [
        ("", "admin.client_auth: nobody has an admin credential"),
        ('[admin.client_auth]\nmode = "none"', "admin.client_auth: nobody has an admin credential"),
        (ADMIN + '[tls.client_auth]\nmode = "none"', 'tls.client_auth.mode: "none" is for development only'),
        (
            ADMIN + "[enrollment]\nrequire_proof_of_possession = false",
            "enrollment.require_proof_of_possession: false at",
        ),
        (ADMIN + '[enrollment]\nsubject_binding = "any"', 'enrollment.subject_binding: "any" at the door without'),
        (
            ADMIN + '[[est.label]]\nname = "x"\nsubject_binding = "any"',
            'enrollment.subject_binding: "any" at label "x"',
        ),
        (
            ADMIN + f'[tls]\nmin_version = "1.3"\ncipher_suites = ["{DEFAULT_CIPHER_SUITES[0]}"]',
            'tls.cipher_suites: has no effect, because min_version is "1.3"',
        ),
        (
            ADMIN + f'[admin.tls]\nmin_version = "1.3"\ncipher_suites = ["{DEFAULT_CIPHER_SUITES[0]}"]',
            'admin.tls.cipher_suites: has no effect, because min_version is "1.3"',
        ),
        (ADMIN + "[auth.basic]\nx = 1", "auth.basic: has no effect, because auth.order does not name it"),
        (ADMIN + "[policy.mine]\nx = 1", "policy.mine: has no effect, because policy.order does not name it"),
    ],
)
def test_the_operator_is_warned_of_what_is_allowed_and_unwise(config_of: ConfigOf, toml: str, beginning: str) -> None:
    (warning,) = warnings(config_of(toml))
    assert warning.startswith(beginning)


def test_a_sound_configuration_has_no_warnings(config_of: ConfigOf) -> None:
    assert warnings(config_of(ADMIN)) == []


def test_the_template_loads_with_the_values_it_was_given(tmp_path: Path) -> None:
    text = default_toml(
        cert='/a "b"/server.pem',
        key="server.key",
        trust_anchors="cas.pem",
        state_dir="/state",
        listen="[::]:443",
        admin_listen="127.0.0.1:444",
        admin_trust_anchors="admins.pem",
    )
    config = load(write(tmp_path / "kipuka.toml", text), {})
    assert config.tls.cert == Path('/a "b"/server.pem')
    assert config.tls.key == tmp_path / "server.key"
    assert config.tls.client_auth.trust_anchors == (tmp_path / "cas.pem",)
    assert config.server.state_dir == Path("/state")
    assert (config.server.listen, config.server.admin_listen) == (Address("::", 443), Address("127.0.0.1", 444))
    assert warnings(config) == []


def test_the_shortest_template_loads_and_is_for_development(tmp_path: Path) -> None:
    path = write(tmp_path / "kipuka.toml", default_toml(cert="c", key="k", trust_anchors=None))
    config = load(path, {})
    assert config.tls.client_auth.mode == "none"
    assert not config.has_admin_credential


def test_every_line_of_the_template_that_is_commented_out_shows_the_default(tmp_path: Path) -> None:
    text = default_toml(cert="c", key="k", trust_anchors="t")
    shown = text.replace("\n# workers", "\nworkers").replace("\n# min_version", "\nmin_version")
    for key in ("allowed_key_types", "max_validity_days", "require_san", "subject_binding", "order"):
        shown = shown.replace(f"\n# {key}", f"\n{key}")
    assert shown.count("\n# ") < text.count("\n# ") - 6
    one, other = (load(write(tmp_path / f"{name}.toml", content), {}) for name, content in (("a", text), ("b", shown)))
    assert one.model_dump() == other.model_dump()


# -- the five deployments of the TLS guide ---------------------------------------------------------------------------
DEPLOYMENTS = Path(__file__).parents[2] / "examples" / "deployments"
GCM_SUITES = 4
EXPECTED = {
    "basic": ("0.0.0.0:8443", "127.0.0.1:9443", "1.2", 6, "optional", True, 5),
    "development": ("127.0.0.1:8443", "127.0.0.1:9443", "1.2", 6, "none", False, 5),
    "production": ("0.0.0.0:8443", "192.0.2.10:9443", "1.2", GCM_SUITES, "optional", True, 4),
    "high-security": ("192.0.2.20:8443", "127.0.0.1:9443", "1.3", 6, "required", True, 1),
    "fips": ("0.0.0.0:8443", "192.0.2.10:9443", "1.2", GCM_SUITES, "required", False, 4),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_a_deployment_of_the_tls_guide_loads_as_the_guide_says(tmp_path: Path, name: str) -> None:
    config = load(DEPLOYMENTS / f"{name}.toml", {"KIPUKA_STATE_DIR": str(tmp_path)})
    facts = (
        str(config.server.listen),
        str(config.server.admin_listen),
        config.tls.min_version,
        len(config.tls.cipher_suites),
        config.tls.client_auth.mode,
        config.has_admin_credential,
        len(config.enrollment.allowed_key_types),
    )
    assert facts == EXPECTED[name]
    assert config.has_embedded_ca
    if len(config.tls.cipher_suites) == GCM_SUITES:
        assert all("_AES_" in suite and "_GCM_" in suite for suite in config.tls.cipher_suites)


def test_the_deployments_are_strict_and_loose_where_the_guide_says() -> None:
    def rules(name: str) -> EnrollmentRules:
        return labels(load(DEPLOYMENTS / f"{name}.toml", {}))[0].rules

    assert not rules("development").require_proof_of_possession
    assert all(rules(name).require_proof_of_possession for name in EXPECTED if name != "development")
    high = rules("high-security")
    assert (high.max_validity_days, high.require_san, high.allowed_key_types) == (365, True, ("ecdsa384",))
    assert rules("fips").allowed_signature_algorithms == ("sha256", "sha384", "sha512")


def test_every_deployment_file_is_tested() -> None:
    assert {path.stem for path in DEPLOYMENTS.glob("*.toml")} == set(EXPECTED)

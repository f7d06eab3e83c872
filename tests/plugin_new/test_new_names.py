"""How a new plugin may be called, and what is said of other names."""

from __future__ import annotations

import re

import pytest

from kipuka_core.cli import command_names
from kipuka_core.cli.plugin_new.kinds import KINDS
from kipuka_core.cli.plugin_new.names import PluginName, read_name
from kipuka_core.config.model import Config

COMMANDS = command_names()


@pytest.mark.parametrize(
    ("text", "distribution", "package", "class_prefix"),
    [
        ("plant", "kipuka-plant", "kipuka_plant", "Plant"),
        ("erp-serials", "kipuka-erp-serials", "kipuka_erp_serials", "ErpSerials"),
        ("kipuka-plant", "kipuka-plant", "kipuka_plant", "Plant"),
        ("v2-of-3", "kipuka-v2-of-3", "kipuka_v2_of_3", "V2Of3"),
        ("x", "kipuka-x", "kipuka_x", "X"),
        ("a" * 30, f"kipuka-{'a' * 30}", f"kipuka_{'a' * 30}", f"A{'a' * 29}"),
    ],
)
def test_a_name_gives_distribution_package_and_classes(
    text: str, distribution: str, package: str, class_prefix: str
) -> None:
    name = read_name(text, KINDS["policy"], COMMANDS)
    assert (name.distribution, name.package, name.class_prefix) == (distribution, package, class_prefix)
    assert package.isidentifier()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("Plant", 'lower-case letters, then digits too, in words joined by hyphens, such as "plant"'),
        ("erp.serials", 'such as "erp-serials"'),
        ("erp_serials", 'such as "erp-serials"'),
        ("ERP Serials", 'such as "erp-serials"'),
        ("KIPUKA-Plant", 'such as "plant"'),
        ("7plants", 'such as "plants"'),
        ("plant-", 'such as "plant"'),
        ("-plant", 'such as "plant"'),
        ("erp--serials", 'such as "erp-serials"'),
        ("../plant", 'such as "plant"'),
        ("plánt", 'such as "plant"'),
        ("plant\n", 'such as "plant"'),
        ("", "joined by hyphens"),
        ("kipuka-", "joined by hyphens"),
        ("%", "joined by hyphens"),
        ("a" * 31, "31 characters and may have at most 30"),
        ("class", "'class' is a word of Python; add another, such as 'class-plugin'"),
        ("core", "kipuka-core is a part of kipuka"),
        ("kipuka-builtin", "kipuka-builtin is a part of kipuka"),
        ("hsm", "kipuka-hsm is a part of kipuka"),
    ],
)
def test_what_is_wrong_with_a_name_is_said(text: str, problem: str) -> None:
    for kind in KINDS.values():
        with pytest.raises(ValueError, match=re.escape(problem)) as caught:
            read_name(text, kind, COMMANDS)
        assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("kind", "text", "problem"),
    [
        ("auth", "otp", "kipuka brings an authenticator 'otp'"),
        ("policy", "names", "kipuka brings a policy 'names'"),
        ("ca", "local", "kipuka brings a CA backend 'local'"),
        ("keys", "file", "kipuka brings a key store 'file'"),
        ("keys", "pkcs11", "kipuka brings a key store 'pkcs11'"),
        ("tls", "self", "kipuka brings TLS material 'self'"),
        ("events", "syslog", "kipuka brings an event sink 'syslog'"),
        ("command", "certs", "kipuka has a command 'certs'"),
        ("command", "plugin", "kipuka has a command 'plugin'"),
        ("auth", "order", "[auth] has a key 'order'"),
        ("policy", "order", "[policy] has a key 'order'"),
        ("tls", "cert", "[tls] has a key 'cert'"),
        ("tls", "material", "[tls] has a key 'material'"),
    ],
)
def test_a_name_that_is_taken_for_this_kind_is_refused(kind: str, text: str, problem: str) -> None:
    with pytest.raises(ValueError, match="take another name") as caught:
        read_name(text, KINDS[kind], COMMANDS)
    assert str(caught.value).startswith(problem)


@pytest.mark.parametrize(("kind", "text"), [("policy", "otp"), ("auth", "certs"), ("ca", "cert"), ("command", "names")])
def test_a_name_that_another_kind_has_is_free(kind: str, text: str) -> None:
    assert read_name(text, KINDS[kind], COMMANDS) == PluginName(text)


def test_every_table_of_a_kind_is_one_of_the_configuration() -> None:
    tables = {kind.table for kind in KINDS.values() if kind.table}
    assert tables == {"auth", "policy", "tls"} & Config.model_fields.keys()

"""A configuration that cannot work stops the start: one line that names the key, and what would be right."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from kipuka_core.testing.pki import key_pem, make_root
from kipuka_core.testing.samples import write_private
from kipuka_core.testing.server import Deployment, make_deployment
from tests.startup.starting import OTHER_ANCHORS, Fault, check, pem, serve


def _configured(name: str, toml: str, *says: str) -> Fault:
    return Fault(name, lambda it: it.configure(toml), says)


def _ml_dsa_ca(deployment: Deployment) -> None:
    root = make_root("Root of tomorrow", "ml-dsa-65")
    (deployment.directory / "pq.pem").write_bytes(root.pem)
    write_private(deployment.directory / "pq.key", key_pem(root.key))
    deployment.configure('[[ca]]\nid = "pq"\ncert = "pq.pem"\nkey = "pq.key"\n')


def _own_cas_not_trusted(deployment: Deployment) -> None:
    (deployment.directory / "anchors.pem").write_bytes(pem(make_root().certificate))
    deployment.configure("", client_auth=f"{OTHER_ANCHORS}trust_own_cas = false\n")


def _own_profile(**label: object) -> Callable[[Deployment], None]:
    """A CA elsewhere that decides by itself, and what the label says of that."""

    def configure(deployment: Deployment) -> None:
        (deployment.directory / "elsewhere.pem").write_bytes(make_root("Elsewhere").pem)
        lines = "".join(f"{key} = {json.dumps(value)}\n" for key, value in label.items())
        deployment.configure(
            '[[ca]]\nid = "away"\nbackend = "command"\nprogram = ["/bin/true"]\nchain = "elsewhere.pem"\n'
            'sets_validity_days = 500\nsets_ext_key_usage = ["clientAuth", "serverAuth"]\n'
            f"[enrollment]\n{lines}"
        )

    return configure


FAULTS = [
    Fault(
        "a CA decides by itself and the label does not accept that",
        _own_profile(),
        ("CA 'away' decides by itself the validity, the extended key usage", "set accept_ca_profile = true"),
    ),
    Fault(
        "a CA issues for longer than the label allows",
        _own_profile(accept_ca_profile=True, max_validity_days=400),
        ("CA 'away' decides by itself to issue for 500 days", "set accept_ca_validity = true"),
    ),
    Fault(
        "a CA gives an extended key usage that the label does not list",
        _own_profile(accept_ca_profile=True, accept_ca_validity=True),
        ("to give the extended key usage 1.3.6.1.5.5.7.3.1", "ext_key_usage has to list it"),
    ),
    Fault("the file is missing", lambda it: it.toml.unlink(), ("kipuka.toml", "cannot be read", "No such file")),
    Fault(
        "the file is not TOML",
        lambda it: it.toml.write_text("[server]\nlisten 8443\n"),
        ("kipuka.toml", "line 2, column 8"),
    ),
    Fault(
        "a table stands in two places",
        lambda it: it.toml.write_text("[tls.self]\n[tls.self]\n"),
        ("line 2, column 10: the table [tls.self] is in the file already",),
    ),
    Fault(
        "a key is in its table twice",
        lambda it: it.toml.write_text("[server]\nworkers = 1\nworkers = 2\n"),
        ("line 3, column 12: this key is in its table already",),
    ),
    Fault(
        "text stands without quotation marks",
        lambda it: it.toml.write_text("[server]\nlisten = localhost\n"),
        ("line 2, column 10: ", "text stands in quotation marks"),
    ),
    Fault(
        "a key is misspelt",
        lambda it: it.configure("", server="worker = 2"),
        ("server.worker", 'did you mean "workers"?'),
    ),
    Fault(
        "a key's feature is not built yet",
        lambda it: it.configure("[[est.label]]\nname = 'a'\nfullcmc = true"),
        ("est.label[0].fullcmc", "not available yet"),
    ),
    Fault(
        "the plain listener has the address of another",
        lambda it: it.toml.write_text(
            it.toml.read_text().replace('\nlisten = "127.0.0.1:0"', '\nlisten = "127.0.0.1:1"\nhttp_listen = "[::]:1"')
        ),
        ("server.http_listen", "is taken by server.listen"),
    ),
    _configured("a plugin's key is misspelt", "[auth.otp]\nttk = '1h'", "auth.otp.ttk", 'did you mean "ttl"?'),
    _configured("there is no authenticator", "[auth]\norder = []", "auth.order", "must not be empty"),
    _configured("there is no policy", "[policy]\norder = []", "policy.order", "must not be empty"),
    _configured("an authenticator is unknown", '[auth]\norder = ["opt"]', "auth.opt", 'did you mean "otp"?'),
    _configured("a policy is unknown", '[policy]\norder = ["key"]', "policy.key", 'did you mean "keys"?'),
    _configured(
        "an enrollment key has no policy",
        '[policy]\norder = ["keys"]\n[enrollment]\nrequire_san = true',
        "enrollment.require_san",
        'the policy "names" is not in policy.order',
    ),
    _configured(
        "the CA's hash is not allowed",
        '[enrollment]\nallowed_signature_algorithms = ["sha512"]',
        "the path without a label",
        "signs with sha256",
        "allowed_signature_algorithms",
    ),
    Fault(
        "a label can issue what it cannot renew",
        _own_cas_not_trusted,
        ("tls.client_auth.trust_anchors", "could never be renewed", "trust_own_cas = true"),
    ),
    Fault(
        "a label with mTLS has an ML-DSA CA, which libssl cannot verify under",
        _ml_dsa_ca,
        ("the path without a label", "'pq'", "ML-DSA", "cannot verify client certificates", 'without "mtls"'),
    ),
    _configured(
        "a file of users is missing",
        '[auth]\norder = ["basic"]\n[auth.basic]\nusers_file = "users"',
        "auth.basic.users_file",
        "/users",
        "No such file",
    ),
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_check_names_the_key_when(fault: Fault, tmp_path: Path) -> None:
    deployment = make_deployment(tmp_path)
    fault.make(deployment)

    line = check(deployment).only_line()

    for text in fault.says:
        assert text in line


@pytest.mark.parametrize("name", ["the file is not TOML", "a key is misspelt", "an authenticator is unknown"])
def test_serve_says_the_same_as_check_when(name: str, tmp_path: Path) -> None:
    deployment = make_deployment(tmp_path)
    next(fault for fault in FAULTS if fault.name == name).make(deployment)

    assert serve(deployment).only_line() == check(deployment).only_line()


@pytest.mark.parametrize("key", ["listen", "admin_listen"])
def test_a_port_in_use_is_named(key: str, tmp_path: Path) -> None:
    deployment = make_deployment(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        toml = deployment.toml.read_text(encoding="utf-8")
        deployment.toml.write_text(toml.replace(f'\n{key} = "127.0.0.1:0"', f'\n{key} = "{address}"'), encoding="utf-8")

        line = serve(deployment).only_line()

    assert line.startswith(f"server.{key}: ")
    assert address in line
    assert "in use" in line


def test_an_address_of_another_host_is_named(tmp_path: Path) -> None:
    deployment = make_deployment(tmp_path)
    toml = deployment.toml.read_text(encoding="utf-8")
    deployment.toml.write_text(toml.replace('\nlisten = "127.0.0.1:0"', '\nlisten = "192.0.2.1:0"'), encoding="utf-8")

    line = serve(deployment).only_line()

    assert line.startswith("server.listen: 192.0.2.1")

"""A missing or broken file stops the start: one line that names the file and the key of kipuka.toml, exit code 1."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from kipuka_core.testing.pki import Authority, key_pem, make_key, make_root
from kipuka_core.testing.samples import write_private
from kipuka_core.testing.server import Deployment, make_deployment
from tests.startup.starting import OTHER_ANCHORS, Fault, check, pem, serve, write_authority, write_server

_LONG_AGO = datetime.now(UTC) - timedelta(days=400)


def _tls(deployment: Deployment, name: str) -> Path:
    return deployment.directory / "tls" / name


def _ca(deployment: Deployment, name: str) -> Path:
    return deployment.directory / "state" / "ca" / name


def _anchors(deployment: Deployment, content: bytes | None) -> None:
    """Trust anchors that are not those of the embedded CA."""
    if content is not None:
        (deployment.directory / "anchors.pem").write_bytes(content)
    deployment.configure("", client_auth=OTHER_ANCHORS)


def _encrypt(file: Path) -> None:
    write_private(file, key_pem(make_key(), b"password of a test"))


def _without_embedded_ca(deployment: Deployment) -> None:
    _anchors(deployment, make_root().pem)
    for file in _ca(deployment, "").iterdir():
        file.unlink()


def _expired_root() -> Authority:
    root = make_root(days=1)
    leaf = root.leaf("an old CA", ca=True, not_before=_LONG_AGO)
    return Authority(leaf.certificate, leaf.key)


def _expired_issuing_ca(deployment: Deployment) -> None:
    root = make_root()
    write_authority(deployment, Authority(root.subordinate(days=0).certificate, make_key(), root.chain))


def _leaf_as_ca(deployment: Deployment) -> None:
    root = make_root()
    leaf = root.leaf("no CA")
    write_authority(deployment, Authority(leaf.certificate, leaf.key, root.chain))


def _orphan_ca(deployment: Deployment) -> None:
    root, other = make_root(), make_root("Another Root CA")
    issuing = root.subordinate()
    write_authority(deployment, Authority(issuing.certificate, issuing.key, other.chain))


FAULTS = [
    Fault(
        "the server certificate is missing",
        lambda it: _tls(it, "server.pem").unlink(),
        ("tls.cert", "tls/server.pem", "No such file"),
    ),
    Fault(
        "the server certificate is garbled",
        lambda it: _tls(it, "server.pem").write_bytes(
            b"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
        ),
        ("tls.cert", "tls/server.pem", "holds no certificate"),
    ),
    Fault(
        "the server certificate expired",
        lambda it: write_server(it, make_root().leaf("localhost", not_before=_LONG_AGO)),
        ("tls/server.pem", "the server certificate expired on"),
    ),
    Fault(
        "the server key is missing",
        lambda it: _tls(it, "server.key").unlink(),
        ("tls.key", "tls/server.key", "No such file"),
    ),
    Fault(
        "the server key is garbled",
        lambda it: write_private(_tls(it, "server.key"), b"not a key"),
        ("tls.key", "tls/server.key", "is not a PEM file"),
    ),
    Fault(
        "the server key is another certificate's",
        lambda it: write_private(_tls(it, "server.key"), key_pem(make_key())),
        ("tls.key", "tls/server.key", "is not the key of the first certificate in", "tls/server.pem"),
    ),
    Fault(
        "the server key is encrypted and no password is named",
        lambda it: _encrypt(_tls(it, "server.key")),
        ("tls.key", "tls/server.key", "encrypted", "password"),
    ),
    Fault(
        "the trust anchors are missing",
        lambda it: _anchors(it, None),
        ("tls.client_auth.trust_anchors", "anchors.pem", "does not exist"),
    ),
    Fault(
        "the trust anchors are empty",
        lambda it: _anchors(it, b"\n"),
        ("tls.client_auth.trust_anchors", "anchors.pem", "is empty"),
    ),
    Fault(
        "the trust anchors are garbled",
        lambda it: _anchors(it, b"no certificate"),
        ("tls.client_auth.trust_anchors", "anchors.pem", "no PEM certificate"),
    ),
    Fault(
        "a trust anchor is not a CA",
        lambda it: _anchors(it, make_root().leaf("device").certificate_pem),
        ("tls.client_auth.trust_anchors", "anchors.pem", "CN=device", "is not a CA certificate"),
    ),
    Fault(
        "a trust anchor expired",
        lambda it: _anchors(it, pem(_expired_root().certificate)),
        ("tls.client_auth.trust_anchors", "anchors.pem", "CN=an old CA", "is valid only from"),
    ),
    Fault(
        "there is no embedded CA and no [[ca]]",
        _without_embedded_ca,
        ("state/ca", "kipuka init", "[[ca]]"),
    ),
    Fault(
        "the state directory has another name",
        lambda it: it.directory.joinpath("state").rename(it.directory / "status"),
        ("server.state_dir: ", "/state is not a directory", "install -d -m 0700"),
    ),
    Fault(
        "the CA's key is missing",
        lambda it: _ca(it, "issuing.key").unlink(),
        ("ca.default.key", "state/ca/issuing.key", "No such file"),
    ),
    Fault(
        "the CA's key is another certificate's",
        lambda it: write_private(_ca(it, "issuing.key"), key_pem(make_key())),
        ("ca.default.key", "is not the key of the certificate in", "issuing.pem"),
    ),
    Fault(
        "the CA's key is encrypted and no password is named",
        lambda it: _encrypt(_ca(it, "issuing.key")),
        ("ca.default.key", "state/ca/issuing.key", "encrypted", "password"),
    ),
    Fault(
        "the CA's certificate expired",
        _expired_issuing_ca,
        ("ca.default.cert", "issuing.pem", "CN=Test Issuing CA", "expired on"),
    ),
    Fault(
        "the CA's certificate is not a CA's",
        _leaf_as_ca,
        ("ca.default.cert", "issuing.pem", "CN=no CA", "is not a CA's"),
    ),
    Fault(
        "the CA's chain belongs to another CA",
        _orphan_ca,
        ("ca.default.chain", "root.pem", "did not issue"),
    ),
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_check_names_the_file_and_the_key_when(fault: Fault, tmp_path: Path) -> None:
    deployment = make_deployment(tmp_path)

    fault.make(deployment)

    line = check(deployment).only_line()
    for text in fault.says:
        assert text in line


@pytest.mark.parametrize(
    "name",
    ["the server key is missing", "there is no embedded CA and no [[ca]]", "the state directory has another name"],
)
def test_serve_says_the_same_in_one_line_when(name: str, tmp_path: Path) -> None:
    deployment = make_deployment(tmp_path)
    next(fault for fault in FAULTS if fault.name == name).make(deployment)

    served = serve(deployment)

    assert served.only_line() == check(deployment).only_line()


def test_a_sound_deployment_passes_the_check(tmp_path: Path) -> None:
    outcome = check(make_deployment(tmp_path))

    assert (outcome.code, outcome.stderr) == (0, "")
    assert f"{tmp_path / 'kipuka.toml'}: ok" in outcome.stdout


def _open_to_others(deployment: Deployment, key: str) -> Path:
    file = deployment.directory / key
    file.chmod(0o644)
    return file


@pytest.mark.parametrize("key", ["tls/server.key", "state/ca/issuing.key"])
def test_a_key_that_others_can_read_is_a_warning(key: str, tmp_path: Path) -> None:
    deployment = make_deployment(tmp_path)
    file = _open_to_others(deployment, key)

    outcome = check(deployment)

    assert outcome.code == 0
    assert f"warning: {file}: mode 0644 lets others use it; run: chmod 0600 {file}" in outcome.stdout.splitlines()


@pytest.mark.parametrize("key", ["tls/server.key", "state/ca/issuing.key"])
def test_a_key_that_others_can_read_is_an_error_with_strict_permissions(key: str, tmp_path: Path) -> None:
    deployment = make_deployment(tmp_path)
    deployment.configure("", server="strict_permissions = true")
    file = _open_to_others(deployment, key)

    line = check(deployment).only_line()

    assert f"{file}: mode 0644 lets others use it" in line

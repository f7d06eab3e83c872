"""CA backend ``est`` in front of a second kipuka, which is a process of its own."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import bcrypt
import pytest

from kipuka_builtin.est_ca import PROVIDER
from kipuka_core import CsrRefused, Issued, NotAllowed, Services, Wait
from kipuka_core.testing import pki
from kipuka_core.testing.contracts.ca_backend import CaBackendContract, asked, check_as_approved
from kipuka_core.testing.samples import write_private
from kipuka_core.testing.server import RunningServer, running_server
from kipuka_core.testing.services import make_services
from tests.external.est_kit import DECLARED, upstream_deployment, write_ra
from tests.external.external_kit import approved_by

PASSWORD = "upstream-password"
MORE = """
[[est.label]]
name = "basic"
auth = ["basic"]
subject_binding = "any"
channel_binding = "off"
key_usage = ["digitalSignature"]
max_validity_days = 30

[[est.label]]
name = "waits"
auth = ["ra"]
subject_binding = "any"
key_usage = ["digitalSignature"]
max_validity_days = 30
approval = true

[auth.basic]
users_file = "htpasswd"
"""


@pytest.fixture(scope="module")
def upstream(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    directory = tmp_path_factory.mktemp("upstream")
    hashed = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
    write_private(directory / "htpasswd", f"ra:{hashed}\n".encode())
    deployment = upstream_deployment(directory, more=MORE)
    with running_server(deployment) as running:
        yield running


class TestAnotherKipuka(CaBackendContract):
    provider = PROVIDER
    issues_further_extensions = False  # the CSR is passed on, and nothing beside it
    timeout_seconds = 60

    @pytest.fixture
    def settings(self, upstream: RunningServer, tmp_path: Path) -> Mapping[str, Any]:
        url = f"{upstream.est_url}/ra"
        credential = write_ra(tmp_path)
        return {"url": url, "trust_anchors": str(upstream.deployment.root_pem), "timeout": 50} | credential | DECLARED

    @pytest.fixture
    def services(self, tmp_path: Path) -> Services:
        return make_services(tmp_path, call_timeout_seconds=60.0)


@pytest.fixture
def settings(upstream: RunningServer, tmp_path: Path) -> dict[str, Any]:
    return {"trust_anchors": str(upstream.deployment.root_pem)} | write_ra(tmp_path) | DECLARED


async def test_a_request_that_waits_upstream_is_repeated_until_it_is_approved(
    upstream: RunningServer, settings: dict[str, Any], tmp_path: Path
) -> None:
    table = PROVIDER.settings(url=f"{upstream.est_url}/waits", repeat_is_safe=True, **settings)
    async with PROVIDER.open(table, make_services(tmp_path)) as backend:
        approved = await approved_by(backend, common_name="patient")
        wait = await backend.issue(approved)
        assert isinstance(wait, Wait)
        assert (wait.reference, wait.retry_after_seconds) == ("202", 60)
        assert wait.reason.startswith("an administrator has to approve this request")
        assert isinstance(await backend.poll(asked(approved, wait.reference)), Wait)
        assert isinstance(await backend.poll(asked(approved)), Wait), "whose outcome was unknown is recognised, too"
        (waiting,) = json.loads(upstream.deployment.kipuka("requests", "list", "--json").stdout)
        upstream.deployment.kipuka("requests", "approve", waiting["id"])
        issued = await backend.poll(asked(approved, wait.reference))
        assert isinstance(issued, Issued)
        check_as_approved(issued.certificate, approved, backend.may_set)
        assert await backend.poll(asked(approved)) == issued


async def test_a_request_that_is_rejected_upstream_is_refused(
    upstream: RunningServer, settings: dict[str, Any], tmp_path: Path
) -> None:
    table = PROVIDER.settings(url=f"{upstream.est_url}/waits", **settings)
    async with PROVIDER.open(table, make_services(tmp_path)) as backend:
        approved = await approved_by(backend, common_name="impatient")
        assert isinstance(await backend.issue(approved), Wait)
        (waiting,) = json.loads(upstream.deployment.kipuka("requests", "list", "--json").stdout)
        upstream.deployment.kipuka("requests", "reject", waiting["id"], "--reason", "unknown serial number")
        with pytest.raises(NotAllowed, match="refuses this request: unknown serial number"):
            await backend.poll(asked(approved, "202"))


async def test_http_basic_with_a_password_from_a_file_or_the_environment(
    upstream: RunningServer, settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UPSTREAM_PASSWORD", PASSWORD)
    write_private(tmp_path / "password", f"{PASSWORD}\n".encode())
    for name in ("cert", "key"):
        del settings[name]
    for secret in ({"password_file": "password"}, {"password_env": "UPSTREAM_PASSWORD"}):
        table = PROVIDER.settings(url=f"{upstream.est_url}/basic", username="ra", **secret, **settings)
        async with PROVIDER.open(table, make_services(tmp_path)) as backend:
            assert isinstance(await backend.issue(await approved_by(backend)), Issued)


async def test_what_the_upstream_refuses_is_refused_with_its_words(
    upstream: RunningServer, settings: dict[str, Any], tmp_path: Path
) -> None:
    table = PROVIDER.settings(url=f"{upstream.est_url}/ra", **settings)
    async with PROVIDER.open(table, make_services(tmp_path)) as backend:
        with pytest.raises(CsrRefused, match="refuses this request: the CSR's key is EC on secp521r1"):
            await backend.issue(await approved_by(backend, key=pki.make_key("ecdsa521")))
    table = PROVIDER.settings(url=upstream.est_url, **settings)  # the door without a label binds names to who asks
    async with PROVIDER.open(table, make_services(tmp_path)) as backend:
        with pytest.raises(NotAllowed, match="refuses this request: "):
            await backend.issue(await approved_by(backend))

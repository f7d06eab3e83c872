"""The admin API against its own OpenAPI document, by somebody else's program."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.admin_site import OPERATOR, AdminSite, admin_site

pytestmark = [pytest.mark.interop, pytest.mark.long]

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "unsupported_method",
    "ignored_auth",
)
"""Not that whatever fits the schema is accepted: a label has to exist and a cursor to be one. Nor the Allow header of
paths that two routes share (``/admin/otp/batch`` and ``/admin/otp/{otp_id}``)."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AdminSite]:
    with admin_site(tmp_path_factory.mktemp("schemathesis")) as running:
        for number in range(3):
            running.enrolled(f"seed-{number}", label="factory")
        yield running


def test_no_request_that_schemathesis_makes_is_a_server_error_and_every_answer_is_as_described(
    site: AdminSite, tmp_path: Path
) -> None:
    port = site.system.server.admin_port
    program = Path(sys.executable).with_name("schemathesis")
    options = {
        "--header": f"Authorization: Bearer {OPERATOR}",
        "--tls-verify": str(site.system.deployment.root_pem),
        "--checks": ",".join(CHECKS),
        "--phases": "examples,coverage,fuzzing",
        "--max-examples": "20",
        "--seed": "1",
        "--request-timeout": "60",
    }
    document = f"https://localhost:{port}/admin/openapi.json"
    command = [str(program), "run", document, "--no-color", "--continue-on-failure"]
    command += [word for option in options.items() for word in option]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-2000:]
    assert "Tested: 30" in done.stdout
    assert [line for line in site.system.server.log() if line["level"] == "error"] == []
    assert site.get("health")["status"] == "healthy"

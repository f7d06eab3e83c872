from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from kipuka_core.edges import log
from kipuka_core.edges.log import REDACTED, redact_text
from kipuka_core.testing.pki import key_pem, make_key


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    handlers, level = logging.getLogger().handlers[:], logging.getLogger().level
    stream = io.StringIO()
    log.configure(stream)
    yield stream
    structlog.reset_defaults()
    logging.getLogger().handlers[:] = handlers
    logging.getLogger().setLevel(level)


def _line(stream: io.StringIO) -> dict[str, Any]:
    line: dict[str, Any] = json.loads(stream.getvalue())
    return line


def test_a_line_is_one_json_object_with_time_and_level(stream: io.StringIO) -> None:
    log.get_logger().info("hello", serial="0a")
    line = _line(stream)
    assert (line["event"], line["level"], line["serial"]) == ("hello", "info", "0a")
    assert line["time"].endswith("Z")


def test_an_audit_fact_keeps_the_time_at_which_it_happened(stream: io.StringIO) -> None:
    log.get_logger().info("certificate_issued", time="2030-01-01T00:00:00Z")
    assert _line(stream)["time"] == "2030-01-01T00:00:00Z"


@pytest.mark.parametrize(
    "name", ["password", "key_password", "token", "pin", "authorization", "bearer_token", "client_secret"]
)
def test_what_is_named_like_a_secret_is_not_written(stream: io.StringIO, name: str) -> None:
    log.get_logger().info("x", **{name: "hunter2"}, nested={name: "hunter2", "list": [{name: "hunter2"}]})
    assert "hunter2" not in stream.getvalue()
    assert _line(stream)[name] == REDACTED


def test_bytes_are_never_written(stream: io.StringIO) -> None:
    log.get_logger().info("x", value=b"hunter2")
    assert "hunter2" not in stream.getvalue()


@pytest.mark.parametrize(
    "text",
    [
        "header Authorization: Basic ZGV2aWNlOmh1bnRlcjI= was sent",
        "authorization: bearer ZGV2aWNlOmh1bnRlcjI=",
        "postgresql://kipuka:ZGV2aWNlOmh1bnRlcjI=@db/kipuka failed",
        "pkcs11:token=a?pin-value=ZGV2aWNlOmh1bnRlcjI= failed",
    ],
)
def test_secrets_inside_of_a_text_are_cut_out(stream: io.StringIO, text: str) -> None:
    log.get_logger().info("x", problem=text, several=[text])
    assert "ZGV2aWNlOmh1bnRlcjI" not in stream.getvalue()
    assert REDACTED in _line(stream)["problem"]


def test_a_private_key_inside_of_a_text_is_cut_out() -> None:
    pem = key_pem(make_key()).decode()
    assert redact_text(f"before {pem} after") == f"before {REDACTED}\n after"


def test_an_ordinary_text_stays_as_it_is() -> None:
    text = "tls.cert: /etc/kipuka/server.pem does not exist; see https://example.org/basic"
    assert redact_text(text) == text


def test_lines_of_libraries_take_the_same_road_and_show_no_exception_text(stream: io.StringIO) -> None:
    try:
        int("hunter2")
    except ValueError:
        logging.getLogger("hypercorn.error").exception("Error in ASGI Framework")
    line = _line(stream)
    assert (line["event"], line["logger"]) == ("Error in ASGI Framework", "hypercorn.error")
    assert line["exception"] == "ValueError"
    assert "test_log.py" in line["frames"][-1]
    assert "hunter2" not in stream.getvalue()

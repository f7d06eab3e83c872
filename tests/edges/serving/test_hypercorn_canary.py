"""What kipuka uses of hypercorn 0.18 beyond its documented API.

A failure here means: read edges/serving/http.py again.
"""

from __future__ import annotations

import inspect
import json
from importlib.metadata import version
from typing import Any

import h2.settings
from hypercorn.asyncio.task_group import TaskGroup
from hypercorn.asyncio.tcp_server import TCPServer
from hypercorn.asyncio.worker_context import WorkerContext
from hypercorn.config import Config
from hypercorn.events import Updated
from hypercorn.protocol.h2 import H2Protocol
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.protocol.http_stream import HTTPStream

PROTOCOL_ARGUMENTS = [
    "self",
    "app",
    "config",
    "context",
    "task_group",
    "connection_state",
    "ssl",
    "client",
    "server",
    "send",
]


def parameters(function: Any) -> Any:
    return list(inspect.signature(function).parameters)


def test_hypercorn_is_the_minor_version_that_was_read() -> None:
    assert version("hypercorn").split(".")[:2] == ["0", "18"]


def test_the_classes_take_what_they_took() -> None:
    server = ["self", "app", "loop", "config", "context", "state", "reader", "writer"]
    assert parameters(TCPServer.__init__) == server
    assert parameters(H11Protocol.__init__) == PROTOCOL_ARGUMENTS
    assert parameters(H2Protocol.__init__) == PROTOCOL_ARGUMENTS
    assert parameters(TaskGroup.spawn_app) == ["self", "app", "config", "scope", "send"]
    assert parameters(WorkerContext.__init__) == ["self", "max_requests"]
    assert parameters(Updated) == ["idle"]


def test_the_methods_that_are_overridden_are_there_and_called_as_before() -> None:
    assert parameters(TCPServer.protocol_send) == ["self", "event"]
    assert parameters(TCPServer._read_data) == ["self"]
    assert parameters(TCPServer._close) == ["self"]
    assert parameters(H11Protocol._check_protocol) == ["self", "event"]
    assert parameters(H11Protocol._create_stream) == ["self", "request"]
    assert parameters(H11Protocol._send_h11_event) == ["self", "event"]
    assert parameters(H2Protocol._handle_events) == ["self", "events"]
    source = inspect.getsource(H11Protocol)
    for call in ("self._check_protocol(event)", "self._create_stream(event)", "self._send_h11_event("):
        assert call in source
    assert "self._handle_events(events)" in inspect.getsource(H2Protocol)
    assert "selected_alpn_protocol()" in inspect.getsource(TCPServer.run)


def test_the_application_is_called_with_five_arguments_and_a_fresh_extensions_dict_per_request() -> None:
    from hypercorn.asyncio import task_group  # noqa: PLC0415 - the module, whose private function is looked at

    assert "await app(scope, receive, send, sync_spawn, call_soon)" in inspect.getsource(task_group._handle)
    assert '"extensions": {},' in inspect.getsource(HTTPStream.handle)


def test_the_settings_that_are_set_exist() -> None:
    config = Config()
    for name in ("h11_max_incomplete_size", "h2_max_header_list_size", "h2_max_concurrent_streams", "errorlog"):
        assert hasattr(config, name)
    assert config.include_server_header is True
    assert hasattr(h2.settings.SettingCodes, "ENABLE_CONNECT_PROTOCOL")


def test_hypercorn_alone_still_gives_the_application_no_client_certificate() -> None:
    """When this fails, hypercorn fills the ``tls`` extension itself and the own way can go."""
    assert "tls" not in json.dumps(inspect.getsource(HTTPStream.handle)).replace("trailers", "")

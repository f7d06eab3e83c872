"""The pytest plugin that comes with kipuka: fixtures for the tests of plugins and of deployments.

It is loaded wherever kipuka is installed (entry point ``pytest11``), so its names begin with ``kipuka_`` and nothing of
the kit is imported before a fixture is asked for. ``pip install kipuka[testing]`` has what the kit needs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:  # a test run that has nothing to do with kipuka shall not wait for its server room
    from kipuka_core.testing.client import EstClient
    from kipuka_core.testing.clock import Clock
    from kipuka_core.testing.pki import Authority
    from kipuka_core.testing.server import Deployment, RunningServer


@pytest.fixture
def kipuka_pki() -> Authority:
    """A root CA in memory, which kipuka knows nothing of: ``leaf()``, ``subordinate()``, ``pem``, ``certificate``."""
    from kipuka_core.testing.pki import make_root  # noqa: PLC0415

    return make_root()


@pytest.fixture
def kipuka_clock() -> Clock:
    """A clock that stands still until a test moves it, for ``make_services(…, clock=kipuka_clock)``."""
    from kipuka_core.testing.clock import Clock  # noqa: PLC0415

    return Clock()


@pytest.fixture
def kipuka_deployment(tmp_path: Path) -> Deployment:
    """A directory with an embedded CA, a server certificate and a ``kipuka.toml``; commands run on it."""
    from kipuka_core.testing.server import make_deployment  # noqa: PLC0415

    return make_deployment(tmp_path / "deployment")


@pytest.fixture
def kipuka_serve(kipuka_deployment: Deployment) -> Iterator[Callable[..., RunningServer]]:
    """Configures :func:`kipuka_deployment` and starts ``kipuka serve`` on free ports, until the test ends.

    ``kipuka_serve(toml, workers=1, server="", client_auth="")``; see :meth:`Deployment.configure`.
    """
    from kipuka_core.testing.server import running_server  # noqa: PLC0415

    with ExitStack() as stack:

        def serve(toml: str = "", *, workers: int = 1, server: str = "", client_auth: str = "") -> RunningServer:
            kipuka_deployment.configure(toml, workers=workers, server=server, client_auth=client_auth)
            return stack.enter_context(running_server(kipuka_deployment))

        yield serve


@pytest.fixture
def kipuka_toml() -> str:
    """What :func:`kipuka_server` has in its ``kipuka.toml`` besides listeners, TLS and CA: override it in a module."""
    return ""


@pytest.fixture
def kipuka_server(kipuka_serve: Callable[..., RunningServer], kipuka_toml: str) -> RunningServer:
    """A server with the configuration that the fixture ``kipuka_toml`` says."""
    return kipuka_serve(kipuka_toml)


@pytest.fixture
def kipuka_client(kipuka_server: RunningServer) -> EstClient:
    """An EST client of :func:`kipuka_server`, without a certificate; ``kipuka_server.client(leaf)`` presents one."""
    return kipuka_server.client()


@pytest.fixture
def kipuka_otp(kipuka_deployment: Deployment) -> Callable[..., str]:
    """Makes one-time passwords: ``kipuka_otp("pump-7")`` is a token, a device's HTTP password."""
    return kipuka_deployment.otp

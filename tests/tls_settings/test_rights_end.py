"""A resumed session and a kept connection have no more rights than a new one (invariant 9), from outside.

Between the first request and the next a CA is taken out of the trust anchors and the server reloads, the certificate
expires, or it is revoked.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

import pytest

from kipuka_core.testing.pki import Leaf, make_csr
from kipuka_core.testing.server import wait_until
from tests.system.system_kit import PKCS10, System
from tests.tls_settings.settings_kit import DEVICE_ROOT, NO_CONNECTION, RawConnection, client_context, connection
from tests.tls_settings.views import ADMIN_CA, HEALTH, SECOND_ROOT, Site, running_site

pytestmark = pytest.mark.long

ENROL = "/.well-known/est/simpleenroll"
MODES = ("optional", "required")
Ask = Callable[[RawConnection], int | str]
RESUMED_WITHOUT_RIGHTS = {"optional": "resumed, 401", "required": NO_CONNECTION}
each_version = pytest.mark.parametrize("tls", ["1.2", "1.3"])
each_mode = pytest.mark.parametrize("mode", MODES)
_numbers = count()


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Site]]:
    """A site for each mode, the same for both listeners."""
    optional, required = (
        {
            "tls.client_auth.mode": f'"{mode}"',
            "tls.client_auth.trust_anchors": '["devices.pem", "second.pem"]',
            "admin.client_auth.mode": f'"{mode}"',
            "admin.client_auth.trust_anchors": '["devices.pem", "admin-ca.pem"]',
        }
        for mode in MODES
    )
    with (
        running_site(tmp_path_factory.mktemp("optional"), optional) as first,
        running_site(tmp_path_factory.mktemp("required"), required) as second,
    ):
        yield {"optional": first, "required": second}


@dataclass(frozen=True, slots=True)
class Before:
    """A client that had an answer of 200: its kept connection, and what it needs to come back."""

    site: Site
    listener: str
    context: ssl.SSLContext
    ask: Ask
    kept: RawConnection
    session: ssl.SSLSession

    def on_the_kept_connection(self) -> int | str:
        return self.ask(self.kept)

    def on_an_old_session(self) -> int | str:
        """The answer on a connection that offers the old session; ``resumed, 401`` where the server took it."""
        with connection(self.site.port(self.listener), self.context, self.session) as raw:
            answer = self.ask(raw)
            was_resumed = isinstance(answer, int) and raw.tls.session_reused
            return f"resumed, {answer}" if was_resumed else answer

    def on_a_new_connection(self) -> int | str:
        with connection(self.site.port(self.listener), self.context) as raw:
            return self.ask(raw)


@contextmanager
def known_client(site: Site, leaf: Leaf, tls: str, ask: Ask, listener: str = "est") -> Iterator[Before]:
    """A client whose first request was answered with 200."""
    context = client_context(site.directory, leaf, tls=tls)
    with connection(site.port(listener), context) as kept:
        assert ask(kept) == 200
        session = kept.tls.session
        assert session is not None
        before = Before(site, listener, context, ask, kept, session)
        assert before.on_an_old_session() == "resumed, 200"
        yield before


def enrols(name: str) -> Ask:
    """Enrols anew for a name, by the certificate of the connection."""
    return lambda raw: raw.ask("POST", ENROL, make_csr(common_name=name), PKCS10)


def looks(raw: RawConnection) -> int | str:
    """Asks for what only administrators see."""
    return raw.ask("GET", HEALTH)


@contextmanager
def without(site: Site, anchors: str, left: bytes) -> Iterator[None]:
    """While this runs, a file of anchors holds others, and the server has reloaded."""
    file: Path = site.directory / anchors
    before = file.read_bytes()
    file.write_bytes(left)
    site.deployment.kipuka("reload")
    try:
        yield
    finally:
        file.write_bytes(before)
        site.deployment.kipuka("reload")


@each_mode
@each_version
def test_after_its_ca_is_no_anchor_any_more(mode: str, tls: str, sites: dict[str, Site]) -> None:
    site, name = sites[mode], f"dropped-{next(_numbers)}"
    with known_client(site, SECOND_ROOT.leaf(name), tls, enrols(name)) as before:
        with without(site, "second.pem", DEVICE_ROOT.pem):
            # The keys of tickets are a context's own, so that a reload ends sessions: it comes to a full handshake.
            assert before.on_an_old_session() == NO_CONNECTION
            assert before.on_the_kept_connection() == 401
            assert before.on_a_new_connection() == NO_CONNECTION
        assert before.on_a_new_connection() == 200


@each_mode
@each_version
def test_after_an_administrators_ca_is_no_anchor_any_more(mode: str, tls: str, sites: dict[str, Site]) -> None:
    site = sites[mode]
    with (
        known_client(site, ADMIN_CA.leaf("ana"), tls, looks, "admin") as before,
        without(site, "admin-ca.pem", DEVICE_ROOT.pem),
    ):
        assert before.on_an_old_session() == NO_CONNECTION
        assert before.on_the_kept_connection() == 401
        assert before.on_a_new_connection() == NO_CONNECTION


@each_mode
@each_version
def test_after_it_was_revoked(mode: str, tls: str, sites: dict[str, Site]) -> None:
    site, name = sites[mode], f"revoked-{next(_numbers)}"
    leaf = recorded(site, name)
    with known_client(site, leaf, tls, enrols(name)) as before:
        site.deployment.kipuka("certs", "revoke", f"{leaf.certificate.serial_number:x}")

        assert before.on_an_old_session() == RESUMED_WITHOUT_RIGHTS[mode]
        assert before.on_the_kept_connection() == 401


def recorded(site: Site, name: str) -> Leaf:
    """A certificate that this site issued to a device of the second CA."""
    system = System(site.deployment, site.server)
    foreign = SECOND_ROOT.leaf(name)
    client = system.client(foreign)
    client.context.load_verify_locations(site.directory / "site-root.pem")
    return Leaf(client.enrol(make_csr(foreign.key, name)).certificate(), foreign.key)


@each_mode
@each_version
def test_after_it_expired(mode: str, tls: str, sites: dict[str, Site]) -> None:
    site, name = sites[mode], f"expired-{next(_numbers)}"
    with still_known(site, name, tls) as before:
        # It is over for the request up to a second before it is over for the handshake, which counts whole seconds.
        wait_until(lambda: before.on_an_old_session() == RESUMED_WITHOUT_RIGHTS[mode])

        assert before.on_the_kept_connection() == 401
        assert before.on_a_new_connection() == NO_CONNECTION


@contextmanager
def still_known(site: Site, name: str, tls: str) -> Iterator[Before]:
    """A client whose certificate ends in a moment: as long a moment as this machine needs for one request."""
    for seconds in (2, 4, 8, 16, 32):
        ends = datetime.now(UTC) + timedelta(seconds=seconds)
        leaf = SECOND_ROOT.leaf(name, days=1, not_before=ends - timedelta(days=1))
        context = client_context(site.directory, leaf, tls=tls)
        with connection(site.port("est"), context) as kept:
            if enrols(name)(kept) == 200 and kept.tls.session is not None:
                yield Before(site, "est", context, enrols(name), kept, kept.tls.session)
                return
    pytest.fail("no request was answered within 32 s")

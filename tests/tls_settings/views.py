"""What the rows of the table look at: clients of both listeners by name, and what each of them sees."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import NameOID

from kipuka_core.model.cipher_suites import TLS12_SUITES
from kipuka_core.testing.pki import Authority, Leaf, key_pem, make_root, name
from kipuka_core.testing.samples import write_private
from kipuka_core.testing.server import Deployment, RunningServer, running_server
from tests.interop.programs import run
from tests.tls_settings.settings_kit import (
    CACERTS,
    DEVICE_CA,
    DEVICE_ROOT,
    LIVE,
    Seen,
    client_context,
    connection,
    look,
    make_site,
    server_leaf,
)

HEALTH = "/admin/health"
CONSOLE = "/console/"
PASSWORD = "password of a test"  # a key's
TLS = ("1.2", "1.3")
PASSWORD_VARIABLE = "KIPUKA_TEST_TLS_KEY_PASSWORD"

TOKENS = {"one": "1" * 32, "two": "2" * 40}
"""Bearer tokens: one in the environment, one in the file ``admin-token``."""
TOKEN_VARIABLE = "KIPUKA_TEST_ADMIN_TOKEN"

SECOND_ROOT: Authority = make_root("Second Root CA")
ADMIN_CA: Authority = make_root("Admin Root CA").subordinate("Admin CA")
DEVICE: Leaf = DEVICE_CA.leaf("device")
STRANGER: Leaf = make_root("Stranger CA").leaf("stranger")
CLIENTS: Mapping[str, Leaf | None] = {
    "without certificate": None,
    "device": DEVICE,
    "device without chain": Leaf(DEVICE.certificate, DEVICE.key),
    "device of the second CA": SECOND_ROOT.leaf("device"),
    "stranger": STRANGER,
    "Ana": ADMIN_CA.leaf(subject=name("Ana", O="Example")),
    "Ben": ADMIN_CA.leaf(subject=name("Ben", O="Example")),
}
SERVERS: Mapping[str, Leaf] = {
    "other": server_leaf(common_name="other"),
    "rsa": server_leaf("rsa2048", "rsa"),
    "open": server_leaf(common_name="open"),
    "locked": server_leaf(common_name="locked"),
}


SECRETS = {PASSWORD_VARIABLE: PASSWORD, TOKEN_VARIABLE: TOKENS["one"]}
"""What is in the environment of every server."""


def furnish(deployment: Deployment) -> None:
    """Write the files that rows name, beside those of a plain site."""
    directory, tls = deployment.directory, deployment.directory / "tls"
    for file, leaf in SERVERS.items():
        (tls / f"{file}.pem").write_bytes(leaf.chain_pem)
        write_private(tls / f"{file}.key", leaf.key_pem)
    (tls / "open.key").chmod(0o644)
    write_private(tls / "locked.key", key_pem(SERVERS["locked"].key, PASSWORD.encode()))
    for file, password in {"password": PASSWORD, "wrong-password": "guess", "empty-password": ""}.items():
        write_private(tls / file, f"{password}\n".encode())
    write_private(directory / "admin-token", f"{TOKENS['two']}\n".encode())
    authorities = {"issuing": DEVICE_CA, "second": SECOND_ROOT, "admin-ca": ADMIN_CA}
    for file, authority in authorities.items():
        (directory / f"{file}.pem").write_bytes(authority.pem)
    (directory / "both.pem").write_bytes(b"# the devices'\n" + DEVICE_ROOT.pem + b"\n# the second\n" + SECOND_ROOT.pem)


@dataclass(frozen=True, slots=True)
class Site:
    """A deployment and its running server."""

    deployment: Deployment
    server: RunningServer

    @property
    def directory(self) -> Path:
        return self.deployment.directory

    def port(self, listener: str) -> int:
        return self.server.est_port if listener == "est" else self.server.admin_port

    def leaf(self, client: str) -> Leaf | None:
        """The certificate of a client by name."""
        return own_ca(self.deployment).leaf("own device") if client == "own device" else CLIENTS[client]


@contextmanager
def running_site(
    directory: Path, settings: Mapping[str, str | None] | None = None, **environment: str
) -> Iterator[Site]:
    """A furnished site with its server; the password of the encrypted key is in the environment."""
    deployment = make_site(directory, settings)
    furnish(deployment)
    with running_server(deployment, environment=SECRETS | environment) as server:
        yield Site(deployment, server)


def own_ca(deployment: Deployment) -> Authority:
    """The embedded CA with its key: for certificates that it never recorded."""
    directory = deployment.root_pem.parent
    certificate, root = (
        x509.load_pem_x509_certificate((directory / file).read_bytes()) for file in ("issuing.pem", "root.pem")
    )
    key = serialization.load_pem_private_key((directory / "issuing.key").read_bytes(), None)
    return Authority(certificate, key, (root,))  # type: ignore[arg-type]  # a key that can sign


View = Callable[[Site], object]


def status(site: Site, listener: str, path: str, client: str, method: str = "GET") -> int | str:
    """The status of an answer, or that there was no connection."""
    context = client_context(site.directory, site.leaf(client))
    with connection(site.port(listener), context) as raw:
        return raw.ask(method, path)


def with_token(site: Site, token: str, method: str) -> int | str:
    """The status of an admin page for a client with a bearer token and no certificate."""
    with connection(site.port("admin"), client_context(site.directory)) as raw:
        return raw.ask(method, HEALTH, headers={"Authorization": f"Bearer {TOKENS[token]}"})


def suite(site: Site, listener: str, tls: str) -> str:
    """The suite that a version is spoken with, by the server's choice; or that there was no connection."""
    seen = _look(site, listener, tls=tls)
    return seen.suite if isinstance(seen, Seen) else seen


def suites(site: Site, listener: str) -> list[str]:
    """The suites of TLS 1.2 that the server takes, in its order of preference. The client's is the reverse."""
    left = [each.openssl for each in reversed(TLS12_SUITES)]
    found: list[str] = []
    while left:
        seen = _look(site, listener, tls="1.2", suites=":".join(left))
        if not isinstance(seen, Seen):
            break
        found.append(seen.suite)
        left.remove(seen.suite)
    return found


def _look(site: Site, listener: str, *, tls: str, suites: str | None = None) -> Seen | str:
    client = CLIENTS["device" if listener == "est" else "Ana"]  # for where a certificate is required
    context = client_context(site.directory, client, tls=tls, suites=suites)
    return look(site.port(listener), context, CACERTS if listener == "est" else LIVE)


def chain(site: Site, listener: str) -> list[str]:
    """The CNs of the certificates that the server sends."""
    pem = re.findall(r"-----BEGIN.*?-----END[^\n]*\n", openssl_says(site, listener, "-showcerts"), re.DOTALL)
    certificates = [x509.load_pem_x509_certificate(each.encode()) for each in dict.fromkeys(pem)]
    return [str(each.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value) for each in certificates]


def asks_for_a_certificate(site: Site, listener: str) -> bool:
    """Whether there is a CertificateRequest in the handshake, by what openssl prints of it."""
    return "Requested Signature Algorithms" in openssl_says(site, listener)


def openssl_says(site: Site, listener: str, *options: str, stdin: bytes = b"") -> str:
    """What ``openssl s_client`` prints of a listener."""
    target = f"127.0.0.1:{site.port(listener)}"
    done = run("openssl", "s_client", "-connect", target, *options, stdin=stdin, check=False)
    return (done.stdout + done.stderr).decode(errors="replace")


def warnings(site: Site, about: str) -> list[str]:
    """What the server said at its start about a file or key, without the path of the test's directory."""
    lines = [str(line.get("warning", "")) for line in site.server.log() if line["event"] == "configuration"]
    return [line.replace(f"{site.directory}/", "") for line in lines if about in line]


def admin_addresses(site: Site) -> list[str]:
    """Those of two addresses of this host at which the admin listener speaks TLS."""
    return [address for address in ("127.0.0.1", "127.0.0.2") if _speaks_tls(address, site)]


def _speaks_tls(address: str, site: Site) -> bool:
    try:
        plain = socket.create_connection((address, site.server.admin_port), timeout=60)
        with plain, client_context(site.directory).wrap_socket(plain, server_hostname="localhost"):
            return True
    except ConnectionRefusedError:
        return False


_LISTENERS = {"": "est", "admin: ": "admin"}
VIEWS: dict[str, View] = {
    **{client: partial(status, listener="est", path=CACERTS, client=client) for client in (*CLIENTS, "own device")},
    **{
        f"{method} {path} {client}": partial(status, listener="admin", path=path, client=client, method=method)
        for method, path in (("GET", LIVE), ("GET", HEALTH), ("POST", HEALTH), ("GET", CONSOLE))
        for client in CLIENTS
    },
    **{
        f"{method} {HEALTH} token {token}": partial(with_token, token=token, method=method)
        for method in ("GET", "POST")
        for token in TOKENS
    },
    **{f"{prefix}TLS {tls}": partial(suite, listener=it, tls=tls) for prefix, it in _LISTENERS.items() for tls in TLS},
    **{f"{prefix}suites": partial(suites, listener=it) for prefix, it in _LISTENERS.items()},
    **{f"{prefix}chain": partial(chain, listener=it) for prefix, it in _LISTENERS.items()},
    **{f"{prefix}is asked": partial(asks_for_a_certificate, listener=it) for prefix, it in _LISTENERS.items()},
    **{
        f"warnings about {about}": partial(warnings, about=about) for about in ("tls/open.key", "cipher_suites", "mode")
    },
    "admin addresses": admin_addresses,
}
"""By the words that stand in the rows. A client's name alone is the status of its ``/cacerts``."""

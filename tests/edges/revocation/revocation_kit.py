"""CRLs and OCSP answers, true and false ones, and real servers that give them."""

from __future__ import annotations

import re
import shutil
import subprocess
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID

from kipuka_core.model.signing_hash import signing_hash
from kipuka_core.testing.pki import Authority, Leaf, key_pem
from kipuka_core.testing.server import wait_until

DAY = timedelta(days=1)


# -- certificates ------------------------------------------------------------------------------------------------------
def points(*urls: str) -> tuple[x509.ExtensionType, bool]:
    """CRL distribution points, one for each URL."""
    return x509.CRLDistributionPoints([x509.DistributionPoint([uri(url)], None, None, None) for url in urls]), False


def responders(*urls: str) -> tuple[x509.ExtensionType, bool]:
    """The OCSP responders of a certificate."""
    access = [x509.AccessDescription(AuthorityInformationAccessOID.OCSP, uri(url)) for url in urls]
    return x509.AuthorityInformationAccess(access), False


def uri(url: str) -> x509.UniformResourceIdentifier:
    return x509.UniformResourceIdentifier(url)


def responder_leaf(authority: Authority, **more: Any) -> Leaf:
    """A certificate for OCSP signing."""
    return authority.leaf("Responder", **{"eku": (ExtendedKeyUsageOID.OCSP_SIGNING,), **more})


def chain_of(leaf: Leaf) -> tuple[x509.Certificate, ...]:
    """As TLS verifies it: leaf first, anchor last."""
    return (leaf.certificate, *leaf.chain)


# -- CRLs --------------------------------------------------------------------------------------------------------------
def crl_der(
    authority: Authority,
    *revoked: Leaf | int,
    this_update: datetime | None = None,
    next_update: datetime | None = None,
    extensions: Sequence[tuple[x509.ExtensionType, bool]] = (),
    entry_extensions: Sequence[tuple[x509.ExtensionType, bool]] = (),
    key: Any = None,
    issuer: x509.Name | None = None,
) -> bytes:
    """A CRL from an hour ago for a day."""
    start = this_update or datetime.now(UTC) - timedelta(hours=1)
    builder = x509.CertificateRevocationListBuilder().issuer_name(issuer or authority.certificate.subject)
    builder = builder.last_update(start).next_update(next_update or start + DAY)
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical=critical)
    entries = []
    for each in revoked:
        serial = each if isinstance(each, int) else each.certificate.serial_number
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(start)
        for extension, critical in entry_extensions:
            entry = entry.add_extension(extension, critical=critical)
        entries.append(entry.build())
    builder = x509.CertificateRevocationListBuilder(
        builder._issuer_name, builder._last_update, builder._next_update, builder._extensions, entries
    )  # the builder's own way to add an entry copies all those before
    signing_key = key or authority.key
    return builder.sign(signing_key, cast("hashes.SHA256", signing_hash(signing_key))).public_bytes(Encoding.DER)


def crl_pem(*arguments: Any, **more: Any) -> bytes:
    """The same as PEM."""
    return x509.load_der_x509_crl(crl_der(*arguments, **more)).public_bytes(Encoding.PEM)


# -- OCSP answers ------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, kw_only=True)
class Responding:
    """What a responder of our own answers, so that it can lie in one thing at a time."""

    authority: Authority
    signer: Leaf | None = None
    """None: the authority itself."""
    revoked: frozenset[int] = frozenset()
    about: x509.Certificate | None = None
    """The certificate that the answer is about, whatever was asked."""
    issuer: x509.Certificate | None = None
    """The issuer that the answer's CertID names."""
    nonce: bytes | None = b"same"
    """``b"same"`` is that of the request, None is none."""
    this_update: datetime | None = None
    next_update: datetime | None = None
    has_next_update: bool = True
    status: ocsp.OCSPCertStatus | None = None
    embedded: Sequence[x509.Certificate] | None = None
    by_name: bool = False
    hash_algorithm: hashes.HashAlgorithm = field(default_factory=hashes.SHA256)
    critical: bool = False

    def answer(self, certificate: x509.Certificate, request_der: bytes) -> bytes:
        now = datetime.now(UTC)
        start = self.this_update or now - timedelta(minutes=1)
        end = (self.next_update or start + DAY) if self.has_next_update else None
        status = self.status or (
            ocsp.OCSPCertStatus.REVOKED if certificate.serial_number in self.revoked else ocsp.OCSPCertStatus.GOOD
        )
        is_revoked = status is ocsp.OCSPCertStatus.REVOKED
        signer = self.signer.certificate if self.signer else self.authority.certificate
        encoding = ocsp.OCSPResponderEncoding.NAME if self.by_name else ocsp.OCSPResponderEncoding.HASH
        builder = (
            ocsp.OCSPResponseBuilder()
            .add_response(
                self.about or certificate,
                self.issuer or self.authority.certificate,
                hashes.SHA1(),
                status,
                start,
                end,
                start if is_revoked else None,
                x509.ReasonFlags.key_compromise if is_revoked else None,
            )
            .responder_id(encoding, signer)
        )
        embedded = self.embedded if self.embedded is not None else ([signer] if self.signer else [])
        if embedded:
            builder = builder.certificates(embedded)
        if self.nonce is not None:
            asked = ocsp.load_der_ocsp_request(request_der).extensions.get_extension_for_class(x509.OCSPNonce)
            nonce = asked.value.nonce if self.nonce == b"same" else self.nonce
            builder = builder.add_extension(x509.OCSPNonce(nonce), critical=False)
        if self.critical:
            strange = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00")
            builder = builder.add_extension(strange, critical=True)
        key = self.signer.key if self.signer else self.authority.key
        return builder.sign(key, cast("hashes.SHA256", self.hash_algorithm)).public_bytes(Encoding.DER)


# -- HTTP --------------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Reply:
    """What a path answers."""

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


Answering = Callable[[bytes], Reply | bytes]


@dataclass
class Site:
    """An HTTP server on a free port. ``pages`` are asked by path with the body of the request."""

    port: int
    pages: dict[str, bytes | Reply | Answering] = field(default_factory=dict)
    asked: Counter[str] = field(default_factory=Counter)
    headers: list[dict[str, str]] = field(default_factory=list)
    release: threading.Event = field(default_factory=threading.Event)
    """What slow pages wait for; set at the end."""

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def slow(self, _body: bytes) -> bytes:
        """A page that answers when it is too late."""
        self.release.wait()
        return b""


@contextmanager
def http_site() -> Iterator[Site]:
    """Serve until the end of the block."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            site.asked[self.path] += 1
            site.headers.append({name.lower(): value for name, value in self.headers.items()})
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            page = site.pages.get(self.path, Reply(status=404))
            answer = page(body) if callable(page) else page
            reply = answer if isinstance(answer, Reply) else Reply(answer)
            self.send_response(reply.status)
            for name, value in {"Content-Length": str(len(reply.body)), **reply.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(reply.body)

        do_POST = do_GET  # noqa: N815  # http.server's name

        def log_message(self, *_: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = False

        def handle_error(self, *_: Any) -> None:
            pass  # the client went away, as clients of slow and lying servers do

    server = Server(("127.0.0.1", 0), Handler)
    site = Site(server.server_address[1])
    thread = threading.Thread(target=lambda: server.serve_forever(poll_interval=0.02))
    thread.start()
    try:
        yield site
    finally:
        site.release.set()
        server.shutdown()
        thread.join()
        server.server_close()


# -- openssl ocsp ------------------------------------------------------------------------------------------------------
class OpensslResponder:
    """A responder by OpenSSL; what it says of a serial number is in its index."""

    def __init__(self, directory: Path, more: Sequence[str]) -> None:
        self._directory = directory
        self._more = tuple(more)
        self._port = 0
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def say(self, known: dict[int, str]) -> None:
        """Know these serial numbers from now on: ``V`` or ``R``. OpenSSL reads its index once, at its start."""
        self.stop()
        write_index(self._directory / "index.txt", known)
        log = self._directory / "log"
        command = ["openssl", "ocsp", "-port", str(self._port), "-index", "index.txt", "-CA", "ca.pem"]
        command += ["-rsigner", "signer.pem", "-rkey", "signer.key", *self._more]
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                command, cwd=self._directory, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
        wait_until(lambda: b"waiting for" in log.read_bytes(), what=lambda: log.read_text(encoding="utf-8"))
        match = re.search(rb"ACCEPT \S*:(\d+)", log.read_bytes())
        assert match, log.read_bytes()
        self._port = int(match[1])

    def stop(self) -> None:
        """Be away."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()


@contextmanager
def openssl_responder(
    directory: Path,
    authority: Authority,
    known: dict[int, str],
    *,
    signer: Leaf | None = None,
    more: Sequence[str] = (),
) -> Iterator[OpensslResponder]:
    """A responder for one CA; ``signer`` None: the CA itself signs. ``more`` are further arguments."""
    if shutil.which("openssl") is None:
        pytest.fail("the program openssl is missing: run tests/interop/install-system-packages (as root)")
    directory.mkdir()
    (directory / "ca.pem").write_bytes(authority.pem)
    signing = signer or Leaf(authority.certificate, authority.key)
    (directory / "signer.pem").write_bytes(signing.certificate_pem)
    (directory / "signer.key").write_bytes(key_pem(signing.key))
    responder = OpensslResponder(directory, more)
    try:
        responder.say(known)
        yield responder
    finally:
        responder.stop()


def write_index(file: Path, known: dict[int, str]) -> None:
    """The database of ``openssl ca``."""
    lines = []
    for serial, status in known.items():
        text = f"{serial:X}"
        text = text if len(text) % 2 == 0 else f"0{text}"
        ended = "250101000000Z,keyCompromise" if status == "R" else ""
        lines.append(f"{status}\t491231235959Z\t{ended}\t{text}\tunknown\t/CN=device\n")
    file.write_text("".join(lines), encoding="utf-8")

"""A stand-in for Vault and OpenBao, written after the documentation of their API.

Neither can be installed where kipuka is developed. It answers over real HTTP and TLS, with the statuses and JSON that
the API documentation gives for: login by AppRole and TLS certificate, ``lookup-self``, ``renew-self``, ``sys/health``,
and of the PKI engine ``sign``, ``sign-verbatim``, ``cert/ca_chain``, ``revoke``. What a role does to a CSR is done as
documented: names from the CSR (``use_csr_common_name``, ``use_csr_sans``), key usages of the role; verbatim: everything
from the CSR, and key usages from the parameters where the CSR has none.
"""

from __future__ import annotations

import json
import secrets
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtensionOID, NameOID

from kipuka_core.model.key_usage import key_usage_extension
from kipuka_core.model.signing_hash import signing_hash
from kipuka_core.testing.pki import Authority, Leaf, make_root

ROLE_ID = "9b1a5f8e-6c1d-4b7e-8f0e-0c2a2f5f3c11"
SECRET_ID = "5c7f1d0a-93de-4a55-b6a8-1fd0c0ffee01"
ROOT_TOKEN = "hvs.stand-in-token-000111222"
_KEY_USAGES = {
    "DigitalSignature": "digitalSignature",
    "ContentCommitment": "contentCommitment",
    "KeyEncipherment": "keyEncipherment",
    "DataEncipherment": "dataEncipherment",
    "KeyAgreement": "keyAgreement",
}
_NOT_COPIED = {ExtensionOID.BASIC_CONSTRAINTS, ExtensionOID.SUBJECT_KEY_IDENTIFIER}


class Refused(Exception):
    """An error status and Vault's ``errors``."""

    def __init__(self, status: int, *errors: str) -> None:
        super().__init__(*errors)
        self.status = status


@dataclass
class Token:
    ends: datetime | None
    renewable: bool
    renewals_left: int = 1_000_000


@dataclass
class Vault:
    """Its state; tests look at it and change it."""

    root: Authority
    authority: Authority
    namespace: str = ""
    mount: str = "pki_devices"
    lease_seconds: int = 3600
    renewals: int = 1_000_000
    """How often a token may be renewed."""
    sealed: bool = False
    allowed_domains: tuple[str, ...] = ("",)
    """Of the role ``devices``: ends of names; an empty one: any."""
    tokens: dict[str, Token] = field(default_factory=dict)
    issued: list[x509.Certificate] = field(default_factory=list)
    revoked: dict[str, int] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    misbehave: Callable[[Handler, str], bool] = field(default=lambda _handler, _path: False)
    """Answers instead, and returns True."""
    lock: threading.Lock = field(default_factory=threading.Lock)
    port: int = 0
    tls: Leaf | None = None

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"

    def new_token(self) -> dict[str, Any]:
        value = f"hvs.{secrets.token_hex(12)}"
        ends = datetime.now(UTC) + timedelta(seconds=self.lease_seconds)
        self.tokens[value] = Token(ends, renewable=True, renewals_left=self.renewals)
        return {"client_token": value, "lease_duration": self.lease_seconds, "renewable": True, "policies": ["kipuka"]}

    def count(self, word: str) -> int:
        return sum(word in call for call in self.calls)

    def sign(self, csr: x509.CertificateSigningRequest, asked: dict[str, Any], *, verbatim: bool) -> x509.Certificate:
        not_after = datetime.strptime(asked["not_after"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
        if not_after > self.authority.certificate.not_valid_after_utc:
            raise Refused(400, "cannot satisfy request, as TTL would result in notAfter beyond the CA's expiration")
        if not csr.is_signature_valid:
            raise Refused(400, "request signature invalid")
        builder = (
            x509.CertificateBuilder()
            .issuer_name(self.authority.certificate.subject)
            .public_key(csr.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(datetime.now(UTC) - timedelta(seconds=30))
            .not_valid_after(not_after)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(csr.public_key()), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.authority.certificate.public_key()),  # type: ignore[arg-type]
                critical=False,
            )
        )
        fill = self._verbatim if verbatim else self._by_role
        certificate = fill(builder, csr, asked).sign(self.authority.key, signing_hash(self.authority.key))
        with self.lock:
            self.issued.append(certificate)
        return certificate

    def _verbatim(
        self, builder: x509.CertificateBuilder, csr: x509.CertificateSigningRequest, asked: dict[str, Any]
    ) -> x509.CertificateBuilder:
        builder = builder.subject_name(csr.subject)
        copied = [each for each in csr.extensions if each.oid not in _NOT_COPIED]
        for extension in copied:
            is_san = extension.oid == ExtensionOID.SUBJECT_ALTERNATIVE_NAME
            critical = not csr.subject.rdns if is_san else extension.critical
            builder = builder.add_extension(extension.value, critical=critical)
        oids = {each.oid for each in copied}
        if ExtensionOID.KEY_USAGE not in oids and asked["key_usage"]:
            names = [_KEY_USAGES[name] for name in asked["key_usage"]]
            builder = builder.add_extension(key_usage_extension(names), critical=True)
        if ExtensionOID.EXTENDED_KEY_USAGE not in oids and asked["ext_key_usage_oids"]:
            usages = [x509.ObjectIdentifier(oid) for oid in asked["ext_key_usage_oids"]]
            builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        return builder

    def _by_role(
        self, builder: x509.CertificateBuilder, csr: x509.CertificateSigningRequest, asked: dict[str, Any]
    ) -> x509.CertificateBuilder:
        names = csr.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        for each in names:
            if not str(each.value).endswith(self.allowed_domains):
                raise Refused(400, f"common name {each.value!r} not allowed by this role")
        builder = builder.subject_name(x509.Name(names))
        with_names = [each for each in csr.extensions if each.oid == ExtensionOID.SUBJECT_ALTERNATIVE_NAME]
        for extension in with_names:
            builder = builder.add_extension(extension.value, critical=not names)
        usage = key_usage_extension(["digitalSignature", "keyAgreement"])
        client = x509.ExtendedKeyUsage([x509.ObjectIdentifier("1.3.6.1.5.5.7.3.2")])
        return builder.add_extension(usage, critical=True).add_extension(client, critical=False)


class Handler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    vault: Vault

    def do_GET(self) -> None:
        self._serve({})

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        self._serve(json.loads(self.rfile.read(length) or b"{}"))

    do_PUT = do_POST  # noqa: N815  # as http.server calls it

    def log_message(self, *_arguments: Any) -> None:
        """Say nothing."""

    def answer(self, status: int, body: str, content_type: str = "application/json") -> None:
        content = body.encode()
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _serve(self, body: dict[str, Any]) -> None:
        path = self.path.partition("?")[0].removeprefix("/v1/")
        with self.vault.lock:
            self.vault.calls.append(f"{self.command} {path}")
        try:
            if self.vault.misbehave(self, path):
                return
            result = self._route(path, body)
        except Refused as refusal:
            self.answer(refusal.status, json.dumps({"errors": list(refusal.args)}))
        except (ConnectionError, ssl.SSLError):
            self.close_connection = True
        else:
            self.answer(200, json.dumps(result))

    def _route(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        vault = self.vault
        if path == "sys/health":
            return {"initialized": True, "sealed": vault.sealed, "standby": False, "version": "1.18.3"}
        if vault.sealed:
            raise Refused(503, "Vault is sealed")
        if self.headers.get("X-Vault-Namespace", "") != vault.namespace:
            raise Refused(404, "no handler for route")
        if path == "auth/approle/login":
            if (body.get("role_id"), body.get("secret_id")) != (ROLE_ID, SECRET_ID):
                raise Refused(400, "invalid role or secret ID")
            return {"auth": vault.new_token()}
        if path == "auth/cert/login":
            if not getattr(self.connection, "getpeercert", dict)():
                raise Refused(400, "client certificate must be supplied")
            return {"auth": vault.new_token()}
        token = self._token()
        if path == "auth/token/lookup-self":
            ttl = 0 if token.ends is None else int((token.ends - datetime.now(UTC)).total_seconds())
            return {"data": {"ttl": ttl, "renewable": token.renewable}}
        if path == "auth/token/renew-self":
            return {"auth": self._renew(token)}
        return self._pki(path, body)

    def _token(self) -> Token:
        token = self.vault.tokens.get(self.headers.get("X-Vault-Token", ""))
        if token is None or (token.ends is not None and token.ends <= datetime.now(UTC)):
            raise Refused(403, "permission denied", "invalid token")
        return token

    def _renew(self, token: Token) -> dict[str, Any]:
        if not token.renewable or token.renewals_left <= 0:
            raise Refused(400, "lease is not renewable")
        token.renewals_left -= 1
        token.ends = datetime.now(UTC) + timedelta(seconds=self.vault.lease_seconds)
        return {"client_token": "", "lease_duration": self.vault.lease_seconds, "renewable": True}

    def _pki(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        vault = self.vault
        if not path.startswith(f"{vault.mount}/"):
            raise Refused(404, f"no handler for route {path!r}. route entry not found.")
        operation = path.removeprefix(f"{vault.mount}/")
        if operation == "cert/ca_chain":
            return {"data": {"certificate": "".join(_pem(each) for each in vault.authority.chain)}}
        if operation == "revoke":
            known = {_serial(each) for each in vault.issued}
            if body["serial_number"] not in known:
                raise Refused(400, f"certificate with serial {body['serial_number']} not found")
            when = vault.revoked.setdefault(body["serial_number"], int(datetime.now(UTC).timestamp()))
            return {"data": {"revocation_time": when}}
        if operation in {"sign-verbatim", "sign/devices"}:
            try:
                csr = x509.load_pem_x509_csr(body["csr"].encode())
            except ValueError as error:
                raise Refused(400, "certificate request could not be parsed") from error
            certificate = vault.sign(csr, body, verbatim=operation == "sign-verbatim")
            issuer = _pem(vault.authority.certificate)
            return {
                "data": {"certificate": _pem(certificate), "issuing_ca": issuer, "serial_number": _serial(certificate)}
            }
        if operation.startswith("sign/"):
            raise Refused(400, f"unknown role: {operation.removeprefix('sign/')}")
        raise Refused(404, f"no handler for route {path!r}.")


@contextmanager
def running_vault(
    *, tls_directory: Path | None = None, clients: Authority | None = None, **state: Any
) -> Iterator[Vault]:
    """A stand-in with a CA below a root, on a free port; with TLS where there is a directory for its files."""
    root = make_root("Vault Test Root")
    vault = Vault(root, root.subordinate("Vault Test CA"), **state)
    vault.tokens[ROOT_TOKEN] = Token(None, renewable=False)
    handler = type("BoundHandler", (Handler,), {"vault": vault})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    vault.port = server.server_address[1]
    if tls_directory is not None:
        vault.tls = root.server("dns:localhost", "ip:127.0.0.1")
        (tls_directory / "vault.pem").write_bytes(vault.tls.chain_pem + vault.tls.key_pem)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tls_directory / "vault.pem")
        if clients is not None:
            context.verify_mode = ssl.CERT_OPTIONAL
            context.load_verify_locations(cadata=clients.pem.decode())
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield vault
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(Encoding.PEM).decode()


def _serial(certificate: x509.Certificate) -> str:
    digits = f"{certificate.serial_number:x}"
    return bytes.fromhex(digits.zfill(len(digits) + len(digits) % 2)).hex(":")


def settings_for(vault: Vault, directory: Path) -> dict[str, Any]:
    (directory / "secret-id").write_text(f"{SECRET_ID}\n")
    (directory / "secret-id").chmod(0o600)
    return {
        "url": vault.url,
        "mount_point": vault.mount,
        "auth": "approle",
        "role_id": ROLE_ID,
        "secret_id_file": str(directory / "secret-id"),
    }

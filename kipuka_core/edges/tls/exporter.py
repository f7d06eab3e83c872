"""Keying material that CPython does not hand out: the RFC 9266 exporter and the extended master secret.

CPython 3.11 to 3.14 have no ``SSL_export_keying_material``, so it is called through ctypes on the very libssl that the
``_ssl`` module is linked to. The ``SSL *`` is found inside CPython's object; before that word is used, its neighbour is
compared with the address of the object's own SSLContext, so that an interpreter with another layout gives an error and
not a crash. :func:`self_test` then proves the values on an in-memory connection before any client depends on them.
"""

from __future__ import annotations

import _ssl
import ctypes
import os
import ssl
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_LABEL = b"EXPORTER-Channel-Binding"
_LENGTH_BYTES = 32
_SSL_CTRL_GET_EXTMS_SUPPORT = 122  # <openssl/ssl.h>; what the macro SSL_get_extms_support calls
_WORD = ctypes.sizeof(ctypes.c_void_p)
_INNER_TYPE: type = vars(_ssl)["_SSLSocket"]


class ExporterUnavailable(Exception):
    """This interpreter or its OpenSSL cannot give keying material; the text says why."""


def export_channel_binding(ssl_object: ssl.SSLObject) -> bytes:
    """The ``tls-exporter`` channel binding of a connection (RFC 9266 2): 32 bytes, equal on both ends.

    Raises ExporterUnavailable.
    """
    output = ctypes.create_string_buffer(_LENGTH_BYTES)
    # Zero-length context with use_context = 1: RFC 9266 2 asks for an empty context value; TLS 1.3 makes no
    # difference between an empty and an absent one, TLS 1.2 would.
    done = _libssl().SSL_export_keying_material(
        _ssl_pointer(ssl_object), output, _LENGTH_BYTES, _LABEL, len(_LABEL), b"", 0, 1
    )
    if done != 1:
        raise ExporterUnavailable("SSL_export_keying_material failed")
    return output.raw


def has_extended_master_secret(ssl_object: ssl.SSLObject) -> bool:
    """Whether a TLS 1.2 connection's session was made with the extended master secret (RFC 7627).

    Raises ExporterUnavailable where that cannot be seen.
    """
    return bool(_libssl().SSL_ctrl(_ssl_pointer(ssl_object), _SSL_CTRL_GET_EXTMS_SUPPORT, 0, None) == 1)


def self_test() -> None:
    """Show on two in-memory TLS 1.3 connections that both ends agree and that connections differ.

    Raises ExporterUnavailable.
    """
    try:
        first, second = _in_memory_bindings(), _in_memory_bindings()
    except (OSError, ValueError) as error:
        raise ExporterUnavailable(f"the self-test could not run: {error}") from error
    if first[0] != first[1] or second[0] != second[1]:
        raise ExporterUnavailable("the two ends of a connection export different values")
    if first[0] == second[0] or len(first[0]) != _LENGTH_BYTES:
        raise ExporterUnavailable("two connections export the same value")


@cache
def exporter_problem() -> str | None:
    """Why channel binding on TLS 1.3 does not work here, None when it does. Runs :func:`self_test` once."""
    try:
        self_test()
    except ExporterUnavailable as error:
        return str(error)
    return None


@cache
def _libssl() -> Any:
    # A symbol looked up in the extension module resolves in the libssl that the module was linked to, and in no other.
    # PyDLL keeps the GIL: the calls are short and the SSL object must not be used by two threads.
    try:
        library = ctypes.PyDLL(getattr(_ssl, "__file__", None))
        export, control = library.SSL_export_keying_material, library.SSL_ctrl
    except (OSError, AttributeError) as error:
        raise ExporterUnavailable(f"OpenSSL's functions cannot be reached: {error}") from error
    export.argtypes = [
        ctypes.c_void_p,
        ctypes.c_char_p,
        ctypes.c_size_t,
        ctypes.c_char_p,
        ctypes.c_size_t,
        ctypes.c_char_p,
        ctypes.c_size_t,
        ctypes.c_int,
    ]
    export.restype = ctypes.c_int
    control.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_long, ctypes.c_void_p]
    control.restype = ctypes.c_long
    return library


def _ssl_pointer(ssl_object: ssl.SSLObject) -> int:
    """The second word of CPython's ``{ PyObject_HEAD; PyObject *Socket; SSL *ssl; PySSLContext *ctx; … }``."""
    inner: Any = getattr(ssl_object, "_sslobj", None)
    header_bytes = object.__basicsize__
    if type(inner) is not _INNER_TYPE or _INNER_TYPE.__basicsize__ < header_bytes + 3 * _WORD:
        raise ExporterUnavailable("this is not CPython's SSL object")
    words = (ctypes.c_void_p * 3).from_address(id(inner) + header_bytes)
    if words[2] != id(ssl_object.context) or not words[1]:
        raise ExporterUnavailable("this interpreter lays out its SSL object in a way that is not known")
    return int(words[1])


def _in_memory_bindings() -> tuple[bytes, bytes]:
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_context.minimum_version = ssl.TLSVersion.TLSv1_3
    _load_throwaway_identity(server_context)
    client_context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client_context.check_hostname = False
    client_context.verify_mode = ssl.CERT_NONE  # the peer is this process
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = server_context.wrap_bio(to_server, to_client, server_side=True)
    client = client_context.wrap_bio(to_client, to_server)
    for end in (client, server, client, server):  # ClientHello; ServerHello to Finished; Finished; done
        try:
            end.do_handshake()
        except ssl.SSLWantReadError:
            continue
    return export_channel_binding(server), export_channel_binding(client)


def _load_throwaway_identity(context: ssl.SSLContext) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "exporter self-test")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
    pem = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM) + key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    # CPython loads identities from files only; this one is memory and never touches a disk.
    descriptor = os.memfd_create("exporter-self-test")
    try:
        path = Path(f"/proc/self/fd/{descriptor}")
        path.write_bytes(pem)
        context.load_cert_chain(path)
    finally:
        os.close(descriptor)

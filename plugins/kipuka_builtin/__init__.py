"""The plugins that come with kipuka. They enter by the same door as anyone else's."""

from __future__ import annotations

from collections.abc import Sequence

from kipuka_builtin import (
    basic,
    command_ca,
    est_ca,
    extensions,
    file_keys,
    jsonl_sink,
    keys,
    local_ca,
    mtls,
    names,
    otp,
    stdout_sink,
    syslog_sink,
    tls_files,
    tls_self,
    validity,
)
from kipuka_core import (
    Authenticator,
    CaBackend,
    EventSink,
    KeyStore,
    Policy,
    Provider,
    TlsMaterial,
    hookimpl,
)

kipuka_api_version = 1


@hookimpl
def kipuka_authenticators() -> Sequence[Provider[Authenticator]]:
    """Client certificates, one-time passwords, HTTP Basic."""
    return [mtls.PROVIDER, otp.PROVIDER, basic.PROVIDER]


@hookimpl
def kipuka_policies() -> Sequence[Provider[Policy]]:
    """Key types, names, extensions, validity."""
    return [keys.PROVIDER, names.PROVIDER, extensions.PROVIDER, validity.PROVIDER]


@hookimpl
def kipuka_ca_backends() -> Sequence[Provider[CaBackend]]:
    """A CA whose key this server holds; one behind a program; one behind another EST server."""
    return [local_ca.PROVIDER, command_ca.PROVIDER, est_ca.PROVIDER]


@hookimpl
def kipuka_key_stores() -> Sequence[Provider[KeyStore]]:
    """PEM files."""
    return [file_keys.PROVIDER]


@hookimpl
def kipuka_tls_material() -> Sequence[Provider[TlsMaterial]]:
    """PEM files, and a certificate of an own CA that renews itself."""
    return [tls_files.PROVIDER, tls_self.PROVIDER]


@hookimpl
def kipuka_event_sinks() -> Sequence[Provider[EventSink]]:
    """JSON lines in a file or on standard output; syslog."""
    return [jsonl_sink.PROVIDER, syslog_sink.PROVIDER, stdout_sink.PROVIDER]

"""The file that ``kipuka init`` writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

_TEMPLATE = """\
# kipuka: an EST server (RFC 7030). Every key is described in docs/configuration.md;
# a line that begins with "# " and a key shows the default.

[server]
listen = {listen}
admin_listen = {admin_listen}
state_dir = {state_dir}
# workers = 1

[tls]
cert = {cert}  # the server's certificate first, then intermediates
key = {key}
# min_version = "1.2"

[tls.client_auth]
mode = {mode}  # "required": renewals only; "none": development only
{trust_anchors}

{admin}

[enrollment]
# allowed_key_types = ["rsa2048", "rsa3072", "rsa4096", "ecdsa256", "ecdsa384"]
# max_validity_days = 398
# require_san = false
# subject_binding = "identity"  # a client gets only names that are its own

[auth]
# order = ["mtls", "otp"]

# Without [[ca]] the embedded CA under state_dir serves.
"""


def default_toml(
    *,
    cert: Path | str,
    key: Path | str,
    trust_anchors: Path | str | None,
    state_dir: Path | str = "/var/lib/kipuka",
    listen: str = "0.0.0.0:8443",
    admin_listen: str = "127.0.0.1:9443",
    admin_trust_anchors: Path | str | None = None,
) -> str:
    """A commented ``kipuka.toml`` that loads.

    ``trust_anchors`` None leaves client certificates off (development). ``admin_trust_anchors`` None leaves the admin
    listener without a credential.
    """
    return _TEMPLATE.format(
        listen=toml_value(listen),
        admin_listen=toml_value(admin_listen),
        state_dir=toml_value(str(state_dir)),
        cert=toml_value(str(cert)),
        key=toml_value(str(key)),
        mode=toml_value("none" if trust_anchors is None else "optional"),
        trust_anchors=_trust_anchors(trust_anchors),
        admin=_admin(admin_trust_anchors),
    )


def _trust_anchors(path: Path | str | None) -> str:
    if path is None:
        return '# trust_anchors = "…"'
    return f"trust_anchors = {toml_value(str(path))}"


def _admin(trust_anchors: Path | str | None) -> str:
    if trust_anchors is None:
        return (
            "# Administrators show a certificate by a CA of their own. Without it: /live and /ready only.\n"
            "# [admin.client_auth]\n"
            '# trust_anchors = "…"'
        )
    return f"[admin.client_auth]\n{_trust_anchors(trust_anchors)}"


def toml_value(value: Any) -> str:
    """A text, number, switch or list as TOML writes it."""
    if isinstance(value, list | tuple):
        return "[" + ", ".join(toml_value(item) for item in value) + "]"
    # JSON's escapes are TOML's, except that TOML also wants DEL escaped.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")

"""Linking identity and proof of possession (RFC 7030 3.5): the CSR names the TLS connection that it came by."""

from __future__ import annotations

import base64
import hmac
from collections.abc import Callable

from kipuka_core.errors import CsrRefused
from kipuka_core.model.label import ChannelBindingMode
from kipuka_core.model.request import Csr


def verify_binding(csr: Csr, mode: ChannelBindingMode, expected: Callable[[], bytes]) -> None:
    """Check that challengePassword is the base64 (RFC 4648 4) of this connection's binding value.

    White space and missing padding do not matter: clients wrap base64 of more than 48 bytes, and neither changes
    the value. ``expected`` gives the raw binding (tls-unique, or the RFC 9266 exporter), may raise CsrRefused itself,
    and is asked only when there is something to compare.

    Raises CsrRefused: ``channel_binding_required`` when the label demands a binding and there is none,
    ``channel_binding_mismatch`` for another value, ``channel_binding_unavailable`` when the connection has none.
    """
    if mode is ChannelBindingMode.OFF:
        return
    if csr.challenge_password is None:
        if mode is ChannelBindingMode.REQUIRED:
            raise CsrRefused(
                "linking of identity and proof of possession is required (RFC 7030 section 3.5): put the channel"
                " binding of this TLS connection, in base64, into the challengePassword attribute of the CSR",
                code="channel_binding_required",
            )
        return
    binding = expected()
    if not binding:  # an empty binding would equal an empty challengePassword
        raise CsrRefused(
            "this TLS connection has no channel binding to compare challengePassword with",
            code="channel_binding_unavailable",
        )
    if not hmac.compare_digest(_significant(csr.challenge_password), _significant(base64.b64encode(binding))):
        raise CsrRefused(
            "challengePassword in the CSR is not the channel binding of this TLS connection (RFC 7030 section 3.5,"
            " RFC 9266): make the CSR anew for each connection, or leave the attribute out where it is not required",
            code="channel_binding_mismatch",
        )


def _significant(text: bytes) -> bytes:
    return text.translate(None, b" \t\r\n").rstrip(b"=")

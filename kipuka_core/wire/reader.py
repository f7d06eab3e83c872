"""The wire room as the road uses it: one object with the three readings of a CSR."""

from __future__ import annotations

from collections import Counter

from kipuka_core.model.identity import Offer
from kipuka_core.model.label import Label
from kipuka_core.model.request import Csr
from kipuka_core.wire.base64_body import decode_body
from kipuka_core.wire.channel_binding import verify_binding
from kipuka_core.wire.csr import decode_csr, verify_possession


class WireReader:
    """Implements the domain's ``CsrReader``."""

    def __init__(self) -> None:
        self.quirks: Counter[str] = Counter()
        """How often clients sent something else than base64 of DER, by the name of the quirk."""

    def decode(self, body: bytes) -> Csr:
        """Bytes of a request body to a CSR. Raises Malformed or CsrRefused."""
        decoded = decode_body(body)
        if decoded.quirk is not None:
            self.quirks[decoded.quirk] += 1
        return decode_csr(decoded.der)

    def verify_possession(self, csr: Csr) -> None:
        """RFC 7030 3.4. Raises CsrRefused."""
        verify_possession(csr)

    def verify_binding(self, csr: Csr, label: Label, offer: Offer) -> None:
        """RFC 7030 3.5. Raises CsrRefused."""
        verify_binding(csr, label.rules.channel_binding, offer.connection.channel_binding)

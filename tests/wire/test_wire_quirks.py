from dataclasses import replace

import pytest

from kipuka_core.wire.quirks import ClientTraits, quirk_of, response_columns

STRONGSWAN = ClientTraits("TLSv1.2", "1.1", frozenset(("host", "content-type", "content-length", "authorization")))


def test_a_client_of_the_strongswan_kind_gets_one_single_line() -> None:
    assert response_columns(STRONGSWAN) is None
    assert quirk_of(STRONGSWAN) == "single_line_base64"


@pytest.mark.parametrize(
    "traits",
    [
        replace(STRONGSWAN, tls_version="TLSv1.3"),
        replace(STRONGSWAN, http_version="2"),
        *(
            replace(STRONGSWAN, headers_present=frozenset((name,)))
            for name in ("user-agent", "accept", "accept-encoding")
        ),
    ],
)
def test_every_other_client_gets_lines_of_64_columns(traits: ClientTraits) -> None:
    assert response_columns(traits) == 64
    assert quirk_of(traits) is None

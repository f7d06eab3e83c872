"""Files with several certificates: all of them, or an error."""

from __future__ import annotations

from pathlib import Path

import pytest

from kipuka_core.edges.tls.files import load_certificates
from kipuka_core.errors import ConfigurationError
from kipuka_core.testing.pki import make_root

ROOT = make_root()
CA = ROOT.subordinate()


def test_a_chain_is_read_in_its_order(tmp_path: Path) -> None:
    file = tmp_path / "chain.pem"
    file.write_bytes(b"a comment\n" + CA.pem + ROOT.pem)
    assert load_certificates(str(file)) == (CA.certificate, ROOT.certificate)


@pytest.mark.parametrize("cut_bytes", [1, 30, 400])
def test_a_chain_that_was_cut_off_is_an_error(tmp_path: Path, cut_bytes: int) -> None:
    file = tmp_path / "chain.pem"
    whole = (CA.pem + ROOT.pem).rstrip()
    file.write_bytes(whole[:-cut_bytes])
    with pytest.raises(
        ConfigurationError, match=r"2 certificates, of which only 1 can be read|no PEM certificate"
    ) as caught:
        load_certificates(str(file))
    assert str(file) in str(caught.value)

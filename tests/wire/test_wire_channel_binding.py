import base64

import pytest

from kipuka_core.errors import CsrRefused
from kipuka_core.model.label import ChannelBindingMode
from kipuka_core.model.request import Csr
from kipuka_core.testing.pki import make_csr
from kipuka_core.wire.channel_binding import verify_binding
from kipuka_core.wire.csr import decode_csr

# 64 bytes: base64 of them is padded, and longer than the lines that some clients wrap at.
BINDING = bytes(range(190, 254))
TEXT = base64.b64encode(BINDING)
COMPARING = [ChannelBindingMode.WHEN_PRESENT, ChannelBindingMode.REQUIRED]


def csr_with(challenge_password: bytes | None) -> Csr:
    return decode_csr(make_csr(challenge_password=challenge_password))


def never_asked() -> bytes:
    raise AssertionError("there is nothing to compare")


@pytest.mark.parametrize("mode", COMPARING)
@pytest.mark.parametrize("text", [TEXT, TEXT.rstrip(b"="), TEXT[:64] + b"\r\n" + TEXT[64:] + b"\n", b" \t" + TEXT])
def test_the_binding_of_this_connection_is_accepted_however_its_base64_is_laid_out(
    mode: ChannelBindingMode, text: bytes
) -> None:
    verify_binding(csr_with(text), mode, lambda: BINDING)


@pytest.mark.parametrize("mode", COMPARING)
@pytest.mark.parametrize(
    "text",
    [
        b"",
        b" ",
        b"=",
        b"shared secret",
        BINDING.hex().encode(),
        TEXT[:-3],
        TEXT + b"A",
        TEXT.swapcase(),
        TEXT.replace(b"+", b"-"),
    ],
)
def test_anything_else_is_a_mismatch(mode: ChannelBindingMode, text: bytes) -> None:
    with pytest.raises(CsrRefused) as refused:
        verify_binding(csr_with(text), mode, lambda: BINDING)
    assert refused.value.code == "channel_binding_mismatch"
    assert TEXT.decode() not in refused.value.reason


def test_an_absent_binding_is_accepted_unless_it_is_required() -> None:
    verify_binding(csr_with(None), ChannelBindingMode.WHEN_PRESENT, never_asked)
    with pytest.raises(CsrRefused, match="linking of identity and proof of possession is required") as refused:
        verify_binding(csr_with(None), ChannelBindingMode.REQUIRED, never_asked)
    assert refused.value.code == "channel_binding_required"


def test_the_attribute_is_left_alone_where_the_label_says_off() -> None:
    verify_binding(csr_with(b"shared secret"), ChannelBindingMode.OFF, never_asked)
    verify_binding(csr_with(None), ChannelBindingMode.OFF, never_asked)


@pytest.mark.parametrize("text", [b"", b"=", TEXT])
def test_a_connection_without_a_binding_matches_nothing_not_even_nothing(text: bytes) -> None:
    with pytest.raises(CsrRefused) as refused:
        verify_binding(csr_with(text), ChannelBindingMode.WHEN_PRESENT, lambda: b"")
    assert refused.value.code == "channel_binding_unavailable"


def test_the_connections_own_refusal_is_passed_on() -> None:
    refusal = CsrRefused("this session was resumed without extended master secret")

    def refuses() -> bytes:
        raise refusal

    with pytest.raises(CsrRefused) as refused:
        verify_binding(csr_with(TEXT), ChannelBindingMode.REQUIRED, refuses)
    assert refused.value is refusal

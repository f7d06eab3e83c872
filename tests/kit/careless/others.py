"""Mistakes of key stores, event sinks and TLS material."""

from __future__ import annotations

from pathlib import Path
from tempfile import gettempdir
from typing import Any

from kipuka_core import Event, ServerIdentity, Signer
from tests.kit.careless.sound import HIDDEN, ROOT, SoundKeyStore, SoundSink, SoundTls
from tests.kit.careless.table import AtRequest, AtStart, Careless, Contract, Unseen

_OPENS = "test_it_opens_a_port_with_coroutine_methods"
_ARRIVES = "test_an_event_has_arrived_when_emit_returns"
_SERVES = "test_a_listener_can_serve_with_it"
_MISSING = str(Path(gettempdir()) / "no-such-directory" / "server.pem")


class _UpperCase(SoundKeyStore):
    schemes = ("SOUND",)


class _AWord(SoundKeyStore):
    schemes = "sound"  # type: ignore[assignment]


class _NoScheme(SoundKeyStore):
    schemes = ()


class _BareKey(SoundKeyStore):
    async def signer(self, key_uri: str) -> Any:
        await super().signer(key_uri)
        return ROOT.key


class _KeyError(SoundKeyStore):
    async def signer(self, key_uri: str) -> Any:
        keys: dict[str, Signer] = {}
        return keys[key_uri]


class _Forgets(SoundSink):
    async def emit(self, event: Event) -> None:
        return


class _Raises(SoundSink):
    async def emit(self, event: Event) -> None:
        raise OSError(HIDDEN)


class _SaysTrue(SoundSink):
    async def emit(self, event: Event) -> Any:
        await super().emit(event)
        return True


class _NamesNothing(SoundTls):
    def __init__(self) -> None:
        super().__init__(_MISSING, _MISSING)


class _Tuple(SoundTls):
    def __init__(self) -> None:
        super().__init__("", "")

    async def server_identity(self) -> Any:
        return self.files


class _Empty(_NamesNothing):
    async def server_identity(self) -> ServerIdentity:
        return ServerIdentity("", "")


def _key_store(mistake: str, make: Any, says: str, test: str = _OPENS, contract_says: str = "") -> Careless:
    return Careless(
        mistake=mistake,
        kind="key_store",
        port=make,
        contract=Contract(test=test, says=contract_says or says),
        server=AtStart(says=says),
    )


def _tls(mistake: str, make: Any, says: str, contract_says: str = "") -> Careless:
    return Careless(
        mistake=mistake,
        kind="tls_material",
        port=make,
        contract=Contract(test=_SERVES, says=contract_says or says),
        server=AtStart(says=says),
    )


ROWS = [
    _key_store(
        "a scheme in upper case",
        _UpperCase,
        "names the URI scheme 'SOUND'; write it in lower case and without the colon",
    ),
    _key_store("schemes is a word", _AWord, "says schemes = str; it has to be tuple"),
    _key_store("no scheme", _NoScheme, "serves no URI scheme; say which, such as schemes = ("),
    _key_store(
        "signer returns the key alone",
        _BareKey,
        "_BareKey.signer answered without a key; it has to answer with Signer(private_key)",
        "test_a_signer_signs_certificates_with_its_key",
        "_BareKey.signer answered with ECPrivateKey; it has to answer with Signer",
    ),
    _key_store(
        "signer raises KeyError",
        _KeyError,
        "_KeyError.signer raised KeyError in line",
        "test_what_cannot_be_opened_is_an_error_of_one_line",
        "raise ConfigurationError(URI, PROBLEM) for what cannot be opened",
    ),
    Careless(
        mistake="emit returns and writes nothing",
        kind="event_sink",
        port=_Forgets,
        contract=Contract(
            test=_ARRIVES, says="the event has not arrived although emit has returned: return when it is safe"
        ),
        server=Unseen(because="where events have to be, the plugin alone knows"),
    ),
    Careless(
        mistake="emit raises",
        kind="event_sink",
        port=_Raises,
        contract=Contract(test=_ARRIVES, says="_Raises.emit raised OSError in line"),
        server=AtRequest(status=503, logs="_Raises.emit raised OSError in line"),
    ),
    Careless(
        mistake="emit returns True",
        kind="event_sink",
        port=_SaysTrue,
        contract=Contract(test=_ARRIVES, says="_SaysTrue.emit answered with bool; it has to answer with None"),
        server=AtRequest(status=503, logs="_SaysTrue.emit answered with bool; it has to answer with None"),
    ),
    _tls(
        "the files are not there",
        _NamesNothing,
        f"{_MISSING}: ",
        f"server_identity names {_MISSING}, where there is no file: write it before you answer",
    ),
    _tls("server_identity returns a tuple", _Tuple, "answered with tuple; it has to answer with ServerIdentity"),
    _tls("server_identity names no files", _Empty, "whose certificate_file is ''; give the path of a PEM file"),
]

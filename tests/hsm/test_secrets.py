"""PINs: in no line of a log, whatever its level, and in no warning of a URI that is almost right."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from datetime import UTC, datetime

import pytest

from kipuka_core import ConfigurationError
from kipuka_core.edges.log import redact
from kipuka_core.testing.pki import make_key
from kipuka_core.testing.services import make_services
from kipuka_hsm.events import announcement, logged_in
from kipuka_hsm.pool import PoolEvent
from kipuka_hsm.settings import HsmSettings
from kipuka_hsm.store import PROVIDER
from tests.hsm.softhsm import PIN, FaultyModule, SoftHsm

_EVERYTHING = """
    import asyncio, logging, sys
    from pathlib import Path
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from kipuka_core.edges import log
    from kipuka_core.testing.services import make_services
    from kipuka_hsm.store import PROVIDER

    log.configure(level=logging.DEBUG)
    logging.getLogger().setLevel(logging.DEBUG)
    logger = log.get_logger()

    async def emit(event):
        fields = event.as_dict()
        logger.info(fields.pop("event"), **fields)

    async def use(settings, uri):
        services = make_services(Path({directory!r}), emit=emit, warn=logger.warning)
        try:
            async with PROVIDER.open(settings, services) as store:
                logger.debug("open", settings=repr(settings), store=repr(store))
                signer = await store.signer(uri)
                sign = signer.private_key.sign
                await signer.run_blocking(sign, b"data", ec.ECDSA(hashes.SHA256()))
                await store.ping()
                Path({orders!r}).write_text("C_Sign crash-once")
                await signer.run_blocking(sign, b"data", ec.ECDSA(hashes.SHA256()))
                logger.debug("signed", tokens=repr(await store.tokens()), signer=repr(signer))
        except Exception as error:
            logger.exception("failed", problem=str(error))

    async def main():
        asyncio.get_running_loop().slow_callback_duration = 0  # every callback is a line, with its arguments
        for uri in sys.argv[1:]:
            settings = PROVIDER.settings(library={library!r}, pin_file={pin_file!r}, sessions=2, retry=1)
            await use(settings, uri)

    asyncio.run(main(), debug=True)
    """


def test_the_pin_is_in_no_log_at_debug_level(hsm: SoftHsm, faulty: FaultyModule) -> None:
    hsm.import_key("issuing", make_key())
    uri = "pkcs11:token=kipuka;object=issuing"
    source = _EVERYTHING.format(
        directory=str(hsm.directory), library=str(faulty.library), pin_file=str(hsm.pin_file), orders=str(faulty.orders)
    )
    wrong = hsm.directory / "wrong-pin"
    wrong.write_text("wrong-pin-4711\n")
    wrong.chmod(0o600)
    uris = [uri, f"{uri}?pin-value={PIN}", f"{uri}?pin-valeu={PIN}", f"{uri}?pin-value=a&{PIN}"]
    uris += [f"{uri}?pin-source={wrong}", f"{uri}?pin-value=wrong-pin-4711", f"{uri}?pin-value={PIN}%0A"]
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(source), *uris], capture_output=True, text=True, check=True
    )
    lines = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]
    assert any(line["level"] == "debug" and line.get("logger") == "asyncio" for line in lines)
    assert any(line["event"].startswith("Executing ") for line in lines)  # a callback, with its arguments
    assert sum(line["event"] == "signed" for line in lines) == 3  # the first three of the URIs
    assert sum(line["event"] == "failed" for line in lines) == 4
    assert not [line for line in (done.stdout + done.stderr).splitlines() if PIN in line or "pin-4711" in line]


@pytest.mark.parametrize(
    "query", ["pin-valeu=S3CRET", "pin_value=S3CRET", "pin%2Dvalue=S3CRET", "pin-value=a&S3CRET", "S3CRET", "S3CRET=x"]
)
async def test_a_pin_in_a_uri_that_is_almost_right_is_not_repeated(hsm: SoftHsm, query: str) -> None:
    hsm.import_key("issuing", make_key())
    told: list[str] = []
    services = make_services(hsm.directory, warn=told.append)
    async with PROVIDER.open(PROVIDER.settings(pin_file=hsm.pin_file, sessions=1), services) as store:
        try:
            await store.signer(f"pkcs11:token=kipuka;object=issuing?{query}")
        except ConfigurationError as error:
            told.append(str(error))
    assert told
    assert "S3CRET" not in str(told)


def test_a_log_shows_which_token_an_event_is_of() -> None:
    now, token = datetime(2026, 1, 1, tzinfo=UTC), "token 'kipuka' (serial 1a2b)"
    facts = [logged_in(token, "2 sessions", now)]
    facts += [announcement(event, token, "it was unplugged", now) for event in PoolEvent]
    assert {fact.name for fact in facts} == {"hsm_logged_in", "hsm_lost", "hsm_recovered"}
    assert [redact(None, "info", dict(fact.as_dict()))["hsm"] for fact in facts] == [token] * 3


def test_the_pin_s_own_variable_is_handed_to_no_signer_process() -> None:
    named = HsmSettings(environment=("AWS_SECRET_ACCESS_KEY",), pin_env="HSM_PIN")
    assert named.environment == ("AWS_SECRET_ACCESS_KEY",)
    with pytest.raises(ValueError, match="environment names HSM_PIN"):
        HsmSettings(environment=("HSM_PIN",), pin_env="HSM_PIN")

"""``kipuka serve --dev``: everything that a first enrolment needs, made once and kept in one directory."""

from __future__ import annotations

from pathlib import Path

from kipuka_core.cli.common import now, run
from kipuka_core.cli.init import prepare
from kipuka_core.cli.new_files import write_new
from kipuka_core.config import Config, load
from kipuka_core.config.values import parse_address
from kipuka_core.domain.one_time_passwords import hash_token, new_one_time_password
from kipuka_core.edges.store import SqlStore, open_store
from kipuka_core.errors import ConfigurationError
from kipuka_core.model.event import OtpCreated
from kipuka_core.model.key_type import KeyType

DEVICE = "device-1"
_TTL_SECONDS = 86400
_TOKEN_FILE = "otp.txt"  # noqa: S105  # a file name

_INSTRUCTIONS = """
kipuka serves EST at https://localhost:{port}/.well-known/est (development; its state is in {directory})

Paste these lines into another terminal, in this directory.

# 1. Fetch the CA certificates
curl -sS --cacert {directory}/state/ca/root.pem https://localhost:{port}/.well-known/est/cacerts \\
  | openssl base64 -d | openssl pkcs7 -inform DER -print_certs -out {directory}/cacerts.pem

# 2. Make a key and enrol with the one-time password (good once, for 24 hours)
openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout {directory}/{device}.key \\
  -subj /CN={device} -addext subjectAltName=DNS:{device} -outform DER \\
  | openssl base64 -out {directory}/{device}.csr
curl -sS --fail-with-body --cacert {directory}/cacerts.pem -u '{device}:{token}' \\
  -H 'Content-Type: application/pkcs10' --data-binary @{directory}/{device}.csr -o {directory}/answer \\
  https://localhost:{port}/.well-known/est/simpleenroll \\
  && openssl base64 -d -in {directory}/answer | openssl pkcs7 -inform DER -print_certs -out {directory}/{device}.pem \\
  || cat {directory}/answer

# 3. Renew, with the certificate from step 2
curl -sS --fail-with-body --cacert {directory}/cacerts.pem \\
  --cert {directory}/{device}.pem --key {directory}/{device}.key \\
  -H 'Content-Type: application/pkcs10' --data-binary @{directory}/{device}.csr -o {directory}/answer \\
  https://localhost:{port}/.well-known/est/simplereenroll \\
  && openssl base64 -d -in {directory}/answer \\
  | openssl pkcs7 -inform DER -print_certs -out {directory}/{device}-renewed.pem \\
  || cat {directory}/answer
openssl verify -CAfile {directory}/cacerts.pem {directory}/{device}-renewed.pem
"""


def prepare_development(directory: Path, *, listen: str | None, admin_listen: str | None) -> tuple[Config, str]:
    """The configuration under ``directory`` and a one-time password that is still good; made where they are missing.

    Raises ConfigurationError for addresses other than those that an existing deployment has.
    """
    is_new = not (directory / "kipuka.toml").exists()
    if is_new:
        prepare(
            directory,
            hosts=("localhost", "127.0.0.1"),
            organization="Kipuka Development",
            key_type=KeyType.ECDSA256,
            listen=listen or "127.0.0.1:8443",
            admin_listen=admin_listen or "127.0.0.1:9443",
        )
    config = load(directory / "kipuka.toml", {})
    wanted = {listen: config.server.listen, admin_listen: config.server.admin_listen}
    if not is_new and any(text and parse_address(text) != address for text, address in wanted.items()):
        raise ConfigurationError(str(config.path), "is there already and listens elsewhere; change it there")
    file = directory / _TOKEN_FILE
    kept = file.read_text(encoding="ascii").strip() if file.exists() else ""
    token = run(_usable_token(config, kept))
    if token != kept:
        file.unlink(missing_ok=True)
        write_new(file, f"{token}\n".encode(), 0o600)
    return config, token


def instructions(directory: Path, port: int, token: str) -> str:
    """The lines that a person pastes to fetch, enrol and renew."""
    return _INSTRUCTIONS.format(directory=directory, port=port, token=token, device=DEVICE)


async def _usable_token(config: Config, kept: str) -> str:
    """``kept``, if it can still be used, else a new one."""
    async with open_store(config.database_url) as store:
        if kept and await _is_usable(store, kept):
            return kept
        otp, token = new_one_time_password(DEVICE, now=now(), ttl_seconds=_TTL_SECONDS)
        event = OtpCreated(
            time=otp.created_at,
            actor="cli",
            otp_id=otp.id,
            entity_id=otp.entity_id,
            expires_at=otp.expires_at.isoformat(),
        )
        await store.add_otp(otp, event)
    return token


async def _is_usable(store: SqlStore, token: str) -> bool:
    otp = await store.find_otp(hash_token(token))
    return otp is not None and otp.revoked_at is None and otp.usage_count < otp.max_usage and otp.expires_at > now()

"""``kipuka otp``: one-time passwords for first enrolments."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import click

from kipuka_core.cli.common import config_option, moment, now, print_table, read_config, with_store
from kipuka_core.config import Config, validate_table
from kipuka_core.domain.one_time_passwords import new_one_time_password
from kipuka_core.edges.store import SqlStore
from kipuka_core.errors import KipukaError
from kipuka_core.hooks.durations import parse_duration
from kipuka_core.hooks.manager import load_plugins
from kipuka_core.model.event import OtpCreated, OtpRevoked
from kipuka_core.model.record import OneTimePassword


@click.group()
def otp() -> None:
    """One-time passwords for first enrolments."""


@otp.command("create")
@config_option
@click.argument("entity_id")
@click.option("--label", help="Good only at this label ('' for the path without one; default: at every one).")
@click.option("--ttl", metavar="DURATION", help="How long it is good, such as 90m or 7d (default: [auth.otp] ttl).")
@click.option("--max-usage", type=click.IntRange(1), help="How many certificates it is good for.")
def create(config_path: Path | None, entity_id: str, label: str | None, ttl: str | None, max_usage: int | None) -> None:
    """Make a one-time password for ENTITY_ID and print it: it is shown now and never again."""
    config = read_config(config_path)
    known = {"", *(each.name for each in config.est.label)}
    if label is not None and label not in known:
        raise KipukaError(f"there is no label {label!r} in {config.path}")
    settings = _otp_settings(config)
    try:
        record, token = new_one_time_password(
            entity_id,
            now=now(),
            ttl_seconds=_ttl_seconds(ttl) if ttl else settings.ttl,
            max_usage=max_usage or settings.max_usage,
            label=label,
            token_bits=settings.token_bits,
        )
    except ValueError as error:
        raise KipukaError(str(error)) from None
    event = OtpCreated(
        time=record.created_at,
        actor="cli",
        label=label or "",
        otp_id=record.id,
        entity_id=entity_id,
        expires_at=record.expires_at.isoformat(),
    )
    with_store(config_path, lambda store: store.add_otp(record, event))
    click.echo(token)
    click.echo(f"id {record.id}, for {entity_id!r}, until {moment(record.expires_at)}", err=True)


@otp.command("list")
@config_option
def list_otps(config_path: Path | None) -> None:
    """List one-time passwords, newest first; the passwords themselves are stored nowhere."""

    async def work(store: SqlStore) -> None:
        at = now()
        rows = [
            (
                each.id,
                each.entity_id,
                "(any)" if each.label is None else each.label or "(none)",
                f"{each.usage_count}/{each.max_usage}",
                moment(each.expires_at),
                _state(each, at),
            )
            for each in await store.list_otps()
        ]
        print_table(("ID", "ENTITY", "LABEL", "USED", "EXPIRES", "STATE"), rows)

    with_store(config_path, work)


@otp.command("revoke")
@config_option
@click.argument("otp_id", metavar="ID")
def revoke(config_path: Path | None, otp_id: str) -> None:
    """Withdraw the one-time password with this ID."""

    async def work(store: SqlStore) -> None:
        at = now()
        if not await store.revoke_otp(otp_id, now=at, event=OtpRevoked(time=at, actor="cli", otp_id=otp_id)):
            raise KipukaError(f"there is no one-time password with the id {otp_id}; `kipuka otp list` shows them")
        click.echo(f"revoked {otp_id}")

    with_store(config_path, work)


def _ttl_seconds(text: str) -> int:
    try:
        return round(parse_duration(text))
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--ttl") from None


def _otp_settings(config: Config) -> Any:
    """``[auth.otp]``, as the authenticator that serves it reads it."""
    provider = load_plugins(config.plugins.enable).provider("authenticator", "otp", "auth.otp")
    table = next((each.settings for each in config.authenticators if each.use == "otp"), {})
    return validate_table(provider.settings, table, "auth.otp", base_dir=config.base_dir)


def _state(each: OneTimePassword, at: datetime) -> str:
    if each.revoked_at is not None:
        return "revoked"
    if each.usage_count >= each.max_usage:
        return "used"
    return "expired" if each.expires_at <= at else "usable"

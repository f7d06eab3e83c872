"""The services that a plugin is opened with, made of what a test has."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn, cast

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes

from kipuka_core.domain.ca_ports import Signer
from kipuka_core.domain.ports import Records
from kipuka_core.hooks.provider import Services
from kipuka_core.model.audit_chain import AuditHead
from kipuka_core.model.event import Event
from kipuka_core.model.label import Label
from kipuka_core.testing.samples import sample_label


def make_services(base_dir: Path, *, labels: Sequence[Label] | None = None, **fields: Any) -> Services:
    """Services on a directory: real threads, the real time, keys from unencrypted PEM files below ``base_dir``.

    ``fields`` replaces any of them. Without a ``store`` among them, a plugin that uses the store fails, and so does
    one that wants something of a CA.
    """

    async def open_signer(key_uri: str) -> Signer:
        pem = await asyncio.to_thread((base_dir / key_uri).read_bytes)
        key = serialization.load_pem_private_key(pem, password=None)
        return Signer(cast("CertificateIssuerPrivateKeyTypes", key))

    values: dict[str, Any] = {
        "store": cast("Records", _NoStore()),
        "clock": lambda: datetime.now(UTC),
        "run_blocking": _run_blocking,
        "open_signer": open_signer,
        "base_dir": base_dir,
        "state_dir": base_dir,
        "labels": (sample_label(),) if labels is None else labels,
        "client_anchors": (),
        "own_issuers": lambda: (),
        "ca_chain": _no_ca,
        "issue_server_certificate": _no_ca,
        "dry_run": False,
        "call_timeout_seconds": 10.0,
        "accept_unrecorded": False,
        "strict_permissions": False,
        "emit": _emit,
        "warn": lambda _message: None,
    }
    return Services(**(values | fields))


class _NoStore:
    """What every deployment's store takes, and nothing else."""

    def anchor(self, head: AuditHead) -> None:
        """Forget it."""

    def __getattr__(self, name: str) -> NoReturn:
        raise AttributeError(
            f"this test has no store (services.store.{name}): override the fixture `services` with"
            " make_services(tmp_path, store=FakeStore()), of kipuka_core.testing.fakes"
        )


async def _emit(_event: Event) -> None:
    """Nobody listens."""


async def _no_ca(*_arguments: Any, **_keywords: Any) -> Any:
    raise AssertionError("this test did not expect a CA to be asked")


async def _run_blocking(function: Callable[..., Any], *arguments: Any) -> Any:
    return await asyncio.to_thread(function, *arguments)

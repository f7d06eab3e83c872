"""Policy ``validity``: how long a certificate may be valid."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime, timedelta

from kipuka_core import (
    Allow,
    Deny,
    DenyKind,
    Enrolment,
    Policy,
    Provider,
    Services,
    Settings,
    Template,
    Verdict,
)


class ValiditySettings(Settings):
    """``[policy.validity]`` has no settings of its own: ``max_validity_days`` is in ``[enrollment]`` and the label."""


class ValidityPolicy(Policy):
    """Shortens what is too long; a CSR cannot ask for a validity (RFC 2986), so there is nothing to refuse."""

    async def shape(self, template: Template, enrolment: Enrolment) -> Template:
        """Cut notAfter at ``max_validity_days`` after notBefore."""
        latest = _latest(template, enrolment)
        return replace(template, not_after=latest) if template.not_after > latest else template

    async def decide(self, template: Template, enrolment: Enrolment) -> Verdict:
        """Refuse what another policy made longer again, or the CA does by itself and the label has not accepted."""
        if template.not_after > _latest(template, enrolment) and not enrolment.label.rules.accept_ca_validity:
            return Deny(DenyKind.PERMISSION, "the certificate would be valid for longer than this label allows")
        return Allow()


def _latest(template: Template, enrolment: Enrolment) -> datetime:
    return template.not_before + timedelta(days=enrolment.label.rules.max_validity_days)


@asynccontextmanager
async def _open(_settings: ValiditySettings, _services: Services) -> AsyncIterator[ValidityPolicy]:
    yield ValidityPolicy()


PROVIDER: Provider[Policy] = Provider(name="validity", settings=ValiditySettings, open=_open)

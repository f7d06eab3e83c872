"""What every audit fact about an enrolment says of it."""

from __future__ import annotations

from typing import Any

from kipuka_core.model.enrolment import Enrolment


def enrolment_facts(enrolment: Enrolment) -> dict[str, Any]:
    """Fields that the events of :mod:`kipuka_core.model.event` about an enrolment have in common."""
    return {
        "time": enrolment.time,
        "request_id": enrolment.request_id,
        "actor": enrolment.identity.entity_id,
        "label": enrolment.label.name,
        "source_address": enrolment.connection.source_address,
        "tls_version": enrolment.connection.tls_version,
        "operation": enrolment.operation,
        "authenticator": enrolment.identity.authenticator,
    }

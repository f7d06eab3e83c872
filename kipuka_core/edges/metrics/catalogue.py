"""Every metric that processes count for themselves: name, kind, labels, and what it says.

Labels have values from the configuration, from lists in the code or from what is bounded there: never an address, an
entity, a serial number or what a client has sent.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """The types of Prometheus that are used here."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric. ``name`` is without ``_total``, which the page puts behind counters."""

    name: str
    kind: Kind
    about: str
    labels: tuple[str, ...] = ()


BUCKETS_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

ENROLMENTS = Metric(
    "kipuka_enrolments",
    Kind.COUNTER,
    "Enrolments by how they ended: issued, replayed (a lost answer again), waiting, refused.",
    ("label", "ca", "authenticator", "operation", "outcome"),
)
REFUSALS = Metric(
    "kipuka_refusals",
    Kind.COUNTER,
    "Refused requests of the EST listener by the code of the event enrolment_refused.",
    ("label", "operation", "code"),
)
RESPONSES = Metric(
    "kipuka_http_responses",
    Kind.COUNTER,
    "Responses of the EST listener by operation and HTTP status; the operation is empty for a path that is none.",
    ("operation", "status"),
)
STEP_SECONDS = Metric(
    "kipuka_step_seconds",
    Kind.HISTOGRAM,
    "Duration of each step of an enrolment, refused ones included.",
    ("step",),
)
HANDSHAKES_FAILED = Metric(
    "kipuka_handshakes_failed",
    Kind.COUNTER,
    "TLS handshakes that failed, by cause.",
    ("listener", "cause"),
)
OTP_USES = Metric("kipuka_otp_uses", Kind.COUNTER, "Certificates that were issued for a one-time password.")
LOCKOUTS = Metric("kipuka_lockouts", Kind.COUNTER, "Lockouts of clients after too many wrong secrets.")
ADMIN_REFUSALS = Metric(
    "kipuka_admin_refusals", Kind.COUNTER, "Refused requests of the admin listener by code.", ("code",)
)
EVENTS = Metric("kipuka_audit_events", Kind.COUNTER, "Audit events by name.", ("event",))
SINK_FAILURES = Metric("kipuka_audit_sink_failures", Kind.COUNTER, "Events that an audit sink did not take.", ("sink",))
EVENT_BACKLOG = Metric(
    "kipuka_audit_backlog", Kind.GAUGE, "Audit events that are being written, and requests that wait for it."
)
STORE_QUEUE = Metric("kipuka_store_queue", Kind.GAUGE, "Jobs that wait for the database.", ("queue",))
HSM_SESSIONS = Metric("kipuka_hsm_sessions", Kind.GAUGE, "Sessions with a token: wanted, and open.", ("token", "state"))
CA_REQUESTS = Metric(
    "kipuka_ca_requests",
    Kind.COUNTER,
    "Requests to a CA by what it said at once: issued, waiting, refused, away (surely not issued), unknown.",
    ("ca", "outcome"),
)
CA_CIRCUITS_OPEN = Metric(
    "kipuka_ca_circuits_open",
    Kind.GAUGE,
    "Processes that leave this CA of a group alone now, because it was away.",
    ("group", "ca"),
)
PROCESSES = Metric("kipuka_processes", Kind.GAUGE, "Processes that serve now.", ("listener",))

COUNTED = (
    ENROLMENTS, REFUSALS, RESPONSES, STEP_SECONDS, HANDSHAKES_FAILED, OTP_USES, LOCKOUTS, ADMIN_REFUSALS, EVENTS,
    SINK_FAILURES, CA_REQUESTS,
)  # fmt: skip
SAMPLED = (EVENT_BACKLOG, STORE_QUEUE, HSM_SESSIONS, CA_CIRCUITS_OPEN, PROCESSES)

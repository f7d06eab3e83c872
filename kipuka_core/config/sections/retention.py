"""``[retention]``: how long the database keeps what is over."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field

from kipuka_core.config.section import Section
from kipuka_core.hooks.durations import Duration

_LAST_CRL_SECONDS = 30 * 86_400
"""A revoked certificate is listed on one CRL made after its end (RFC 5280 3.3), which is due long before that."""


def _until_the_last_crl(seconds: int) -> int:
    if seconds < _LAST_CRL_SECONDS:
        raise ValueError('must be at least "30d": a revoked certificate stands on one more CRL after its end')
    return seconds


class Retention(Section):
    """Old records leave the database for compressed files of JSON lines. Without durations nothing does.

    The process of the admin listener does it, one at a time however many servers share a database. A record is written
    to its file, and that is on disk, before it is deleted.
    """

    certificates: Annotated[Duration, AfterValidator(_until_the_last_crl)] | None = Field(
        default=None,
        description=(
            "How long after its end a certificate's record is archived, revoked or not; at least 30 days, since a "
            "revoked one stands on one more CRL. Absent: never."
        ),
        examples=["365d"],
    )
    requests: Duration | None = Field(
        default=None,
        description="How long after its decision a remembered request is archived. Absent: never.",
        examples=["90d"],
    )
    otps: Duration | None = Field(
        default=None,
        description="How long after its end a one-time password's record is archived, used or not. Absent: never.",
        examples=["90d"],
    )
    events: Duration | None = Field(
        default=None,
        description=(
            "How long after it happened an audit event leaves the database; the audit sinks' files are not touched. "
            "Absent: never."
        ),
        examples=["730d"],
    )
    archive_dir: Path | None = Field(
        default=None,
        description="Where the files go, readable by the server's user alone. Absent: `archive` in state_dir.",
    )
    interval: Duration = Field(default=3600, description="How often what has become old is looked for.")

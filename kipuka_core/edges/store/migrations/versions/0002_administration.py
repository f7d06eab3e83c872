"""What administrators search by, and one-time passwords bound to a pattern.

Revision ID: 0002
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_SEARCHES = {
    "ix_certificates_ca_search": ["ca_id", "id", "label", "status", "not_after"],
    "ix_certificates_label_search": ["label", "id", "ca_id", "status", "not_after"],
    "ix_certificates_status_search": ["status", "id", "ca_id", "label", "not_after"],
    "ix_certificates_expiry_search": ["not_after", "id", "status", "ca_id", "label"],
    "ix_certificates_entity_id_id": ["entity_id", "id"],
}
_TARGETS = ("serial", "subject", "entity_id", "otp_id")


def upgrade() -> None:
    """Add columns and indexes; facts that are there already can be searched for too."""
    for name, columns in _SEARCHES.items():
        op.create_index(name, "certificates", columns, unique=False)
    op.drop_index("ix_certificates_entity_id", "certificates")
    op.create_index(
        op.f("ix_certificate_names_certificate_id_name"), "certificate_names", ["certificate_id", "name"], unique=False
    )
    op.add_column("requests", sa.Column("subject_pattern", sa.String(), nullable=True))
    op.create_index("ix_requests_state_created_at_id", "requests", ["state", "created_at", "id"], unique=False)
    op.create_index("ix_requests_created_at_id", "requests", ["created_at", "id"], unique=False)
    op.add_column("otps", sa.Column("subject_pattern", sa.String(), nullable=True))
    op.create_index(op.f("ix_otps_created_at_id"), "otps", ["created_at", "id"], unique=False)
    op.create_index(op.f("ix_otps_entity_id_created_at_id"), "otps", ["entity_id", "created_at", "id"], unique=False)
    op.drop_index("ix_otps_entity_id", "otps")
    _targets_of_events()


def _targets_of_events() -> None:
    for target in _TARGETS:
        op.add_column("events", sa.Column(target, sa.String(), nullable=True))
    _fill_targets()
    for target in _TARGETS:
        known = sa.text(f"{target} IS NOT NULL")
        op.create_index(
            f"ix_events_{target}_time",
            "events",
            [target, "time"],
            unique=False,
            sqlite_where=known,
            postgresql_where=known,
        )


def _fill_targets() -> None:
    member = "json_extract(body, '$.{0}')" if op.get_bind().dialect.name == "sqlite" else "CAST(body AS json) ->> '{0}'"
    values = {target: member.format(target) for target in _TARGETS}
    # Of an enrolment, the target is who asked.
    enrols = f"CASE WHEN {member.format('authenticator')} IS NOT NULL THEN NULLIF(actor, '') END"
    values["entity_id"] = f"COALESCE({values['entity_id']}, {enrols})"
    assignments = ", ".join(f"{target} = {value}" for target, value in values.items())
    op.execute(f"UPDATE events SET {assignments}")  # noqa: S608  # names of this file

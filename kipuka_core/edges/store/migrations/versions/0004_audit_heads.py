"""Ends of audit chains; indexes for what is counted at every scrape of the metrics.

Revision ID: 0004
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_USABLE = "revoked_at IS NULL AND usage_count < max_usage"


def upgrade() -> None:
    """Make the table and the indexes."""
    op.create_table(
        "audit_heads",
        sa.Column("writer", sa.String(), nullable=False),
        sa.Column("key_id", sa.String(), nullable=False),
        sa.Column("file", sa.String(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("mac", sa.String(), nullable=False),
        sa.Column("time", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("writer", name=op.f("pk_audit_heads")),
    )
    op.create_index(op.f("ix_audit_heads_time"), "audit_heads", ["time"], unique=False)
    op.create_index("ix_certificates_status_not_after", "certificates", ["status", "not_after"], unique=False)
    op.create_index(
        "ix_otps_expires_at_usable",
        "otps",
        ["expires_at"],
        unique=False,
        sqlite_where=sa.text(_USABLE),
        postgresql_where=sa.text(_USABLE),
    )

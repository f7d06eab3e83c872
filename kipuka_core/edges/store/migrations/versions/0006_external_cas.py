"""Requests that external CAs have been asked for.

Revision ID: 0006
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add what is known of them and told to them; one that is pending at a CA is the only one of its kind."""
    for column in (
        sa.Column("ca_id", sa.String(), nullable=True),
        sa.Column("template_der", sa.LargeBinary(), nullable=True),
        sa.Column("issuer_der", sa.LargeBinary(), nullable=True),
        sa.Column("asked_at", sa.BigInteger(), nullable=True),
        sa.Column("ca_reference", sa.String(), nullable=True),
        sa.Column("next_poll_at", sa.BigInteger(), nullable=True),
        sa.Column("polls", sa.Integer(), nullable=True),
    ):
        op.add_column("requests", column)
    op.create_table(
        "ca_told",
        sa.Column("issuer_key_id", sa.String(), nullable=False),
        sa.Column("change", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("issuer_key_id", name=op.f("pk_ca_told")),
    )
    op.create_index(op.f("ix_requests_next_poll_at"), "requests", ["next_poll_at"], unique=False)
    op.drop_index("uq_requests_key_open", table_name="requests")
    is_open = sa.text("state = 'intent' OR state = 'waiting' OR state = 'pending'")
    op.create_index(
        "uq_requests_key_open", "requests", ["key"], unique=True, sqlite_where=is_open, postgresql_where=is_open
    )

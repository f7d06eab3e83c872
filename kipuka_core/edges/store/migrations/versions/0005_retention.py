"""Jobs that one process does for all, and indexes for what is over.

Revision ID: 0005
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the table with its one job, and the indexes."""
    jobs = op.create_table(
        "jobs",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_jobs")),
    )
    op.bulk_insert(jobs, [{"name": "retention", "due_at": 0}])
    op.create_index(op.f("ix_otps_expires_at"), "otps", ["expires_at"], unique=False)
    op.create_index(op.f("ix_requests_decided_at"), "requests", ["decided_at"], unique=False)

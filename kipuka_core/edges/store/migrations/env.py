"""Runs migrations on the connection that the store hands over, inside its transaction: all of them or none."""

from alembic import context

from kipuka_core.edges.store.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transactional_ddl=True,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()

"""Alembic's entry point: runs the versions on the connection that `upgrade` hands over, inside its transaction."""

from alembic import context

from spindle_control.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transactional_ddl=True,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()

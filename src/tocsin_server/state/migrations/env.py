"""Alembic's entry: migrates over the connection that :func:`tocsin_server.state.migrate.upgrade` gives."""

from alembic import context

from tocsin_server.state.tables import Base

context.configure(connection=context.config.attributes["connection"], target_metadata=Base.metadata)
context.run_migrations()

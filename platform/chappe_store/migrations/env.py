"""Alembic's environment. It runs inside the connection and transaction that `chappe_store.migrate` opened."""

from alembic import context

from chappe_store.base import Base

context.configure(connection=context.config.attributes["connection"], target_metadata=Base.metadata)
with context.begin_transaction():
    context.run_migrations()

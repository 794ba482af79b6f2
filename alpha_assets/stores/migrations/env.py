"""Alembic's entry: it runs on the connection that the ledger hands over, under the ledger's file lock."""

from alembic import context

from alpha_assets.stores.tables import metadata

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=metadata, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()

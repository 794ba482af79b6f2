"""Signals, their outcomes, keyed data; what a candidate was trained by; decisions that nobody can rewrite."""

import sqlalchemy as sa
from alembic import op

from alpha_assets.stores.tables import Instant

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

SIGNAL_COLUMNS = (
    ("regime", sa.String(length=16)),
    ("score", sa.Float()),
    ("expected_return", sa.Float()),
    ("price", sa.Float()),
    ("predicted_price", sa.Float()),
    ("price_low", sa.Float()),
    ("price_high", sa.Float()),
    ("risk", sa.String(length=8)),
    ("views", sa.JSON()),
    ("top_features", sa.JSON()),
    ("data_points", sa.Integer()),
    ("features_set", sa.String(length=80)),
    ("cache_key", sa.String(length=64)),
)

#: A family had attempts and trials of its own for each horizon, so that one could shop for horizons.
BARE = "rtrim(family, '0123456789')"
ONE_BUDGET = f"family = substr(family, 1, length({BARE}) - 2) WHERE {BARE} LIKE '%|h'"


REFUSED = "decisions are append-only: take another one"


def _shut() -> None:
    """Decisions can be neither changed nor deleted, by this program or any other that has the database."""
    if op.get_bind().dialect.name == "postgresql":
        op.execute(
            "CREATE FUNCTION decisions_stay() RETURNS trigger LANGUAGE plpgsql AS "
            f"$$ BEGIN RAISE EXCEPTION '{REFUSED}'; END $$"
        )
        op.execute(
            "CREATE TRIGGER decisions_stay BEFORE UPDATE OR DELETE ON decisions "
            "FOR EACH ROW EXECUTE FUNCTION decisions_stay()"
        )
        return
    for what in ("UPDATE", "DELETE"):
        op.execute(
            f"CREATE TRIGGER decisions_stay_{what.lower()} BEFORE {what} ON decisions "
            f"BEGIN SELECT RAISE(ABORT, '{REFUSED}'); END"
        )


def _open() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP TRIGGER decisions_stay ON decisions")
        op.execute("DROP FUNCTION decisions_stay()")
        return
    for what in ("update", "delete"):
        op.execute(f"DROP TRIGGER decisions_stay_{what}")


def upgrade() -> None:
    _shut()
    for name, kind in SIGNAL_COLUMNS:
        op.add_column("signals", sa.Column(name, kind, nullable=True))
    op.add_column("symbol_state", sa.Column("outcomes_until", Instant(), nullable=True))
    op.add_column("candidates", sa.Column("configuration", sa.String(length=64), nullable=True))
    for table in ("attempts", "trials"):
        op.execute(f"UPDATE {table} SET {ONE_BUDGET}")
    op.create_table(
        "outcomes",
        sa.Column("symbol", sa.String(length=64), nullable=False),
        sa.Column("strategy", sa.String(length=64), nullable=False),
        sa.Column("bar_time", Instant(), nullable=False),
        sa.Column("signal_id", sa.String(length=64), nullable=False),
        sa.Column("regime", sa.String(length=16), nullable=True),
        sa.Column("side", sa.Integer(), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("document", sa.JSON(), nullable=False),
        sa.Column("written_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("symbol", "strategy", "bar_time"),
    )
    op.create_table(
        "performance",
        sa.Column("strategy", sa.String(length=64), nullable=False),
        sa.Column("symbol", sa.String(length=64), nullable=False),
        sa.Column("regime", sa.String(length=16), nullable=False),
        sa.Column("window", sa.String(length=16), nullable=False),
        sa.Column("document", sa.JSON(), nullable=False),
        sa.Column("written_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("strategy", "symbol", "regime", "window"),
    )
    op.create_table(
        "signal_metrics",
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("document", sa.JSON(), nullable=False),
        sa.Column("created_at", Instant(), nullable=False),
        sa.Column("expires_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("key"),
    )
    op.create_table(
        "cache",
        sa.Column("namespace", sa.String(length=64), nullable=False),
        sa.Column("key", sa.String(length=255), nullable=False),
        sa.Column("value", sa.JSON(), nullable=False),
        sa.Column("created_at", Instant(), nullable=False),
        sa.Column("expires_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("namespace", "key"),
    )
    op.create_table(
        "cache_counts",
        sa.Column("namespace", sa.String(length=64), nullable=False),
        sa.Column("hits", sa.Integer(), nullable=False),
        sa.Column("misses", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("namespace"),
    )


def downgrade() -> None:
    _open()
    for table in ("cache_counts", "cache", "signal_metrics", "performance", "outcomes"):
        op.drop_table(table)
    with op.batch_alter_table("symbol_state") as states:
        states.drop_column("outcomes_until")
    with op.batch_alter_table("candidates") as candidates:
        candidates.drop_column("configuration")
    with op.batch_alter_table("signals") as signals:
        for name, _ in SIGNAL_COLUMNS:
            signals.drop_column(name)

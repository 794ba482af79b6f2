"""The first ledger: universe, states, findings, candidates, decisions, attempts, signals, profiles."""

import sqlalchemy as sa
from alembic import op

from alpha_assets.stores.tables import Instant

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "attempts",
        sa.Column("family", sa.String(length=200), nullable=False),
        sa.Column("evidence_digest", sa.String(length=64), nullable=False),
        sa.Column("attempted_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("family", "evidence_digest"),
    )
    op.create_table(
        "candidates",
        sa.Column("symbol", sa.String(length=64), nullable=False),
        sa.Column("regime", sa.String(length=16), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("training_id", sa.String(length=64), nullable=True),
        sa.Column("features_set", sa.String(length=80), nullable=True),
        sa.Column("model_name", sa.String(length=200), nullable=True),
        sa.Column("model_version", sa.String(length=16), nullable=True),
        sa.Column("model_location", sa.Text(), nullable=True),
        sa.Column("model_digest", sa.String(length=64), nullable=True),
        sa.Column("rows", sa.Integer(), nullable=True),
        sa.Column("bars", sa.Integer(), nullable=True),
        sa.Column("trained_until", Instant(), nullable=True),
        sa.Column("trained_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("symbol", "regime"),
    )
    op.create_table(
        "decisions",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("symbol", sa.String(length=64), nullable=False),
        sa.Column("regime", sa.String(length=16), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("verdict", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("training_id", sa.String(length=64), nullable=True),
        sa.Column("features_set", sa.String(length=80), nullable=True),
        sa.Column("model_name", sa.String(length=200), nullable=True),
        sa.Column("model_version", sa.String(length=16), nullable=True),
        sa.Column("model_location", sa.Text(), nullable=True),
        sa.Column("model_digest", sa.String(length=64), nullable=True),
        sa.Column("previous_version", sa.String(length=16), nullable=True),
        sa.Column("evidence", sa.JSON(), nullable=False),
        sa.Column("dagster_run", sa.String(length=64), nullable=True),
        sa.Column("decided_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("symbol", "regime", "seq", name="decisions_once"),
    )
    op.create_table(
        "findings",
        sa.Column("symbol", sa.String(length=64), nullable=False),
        sa.Column("rule", sa.String(length=64), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("seen_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("symbol", "rule", "day"),
    )
    op.create_table(
        "profiles",
        sa.Column("symbol", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("schema_version", sa.Integer(), nullable=False),
        sa.Column("document", sa.JSON(), nullable=False),
        sa.Column("written_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("symbol", "kind"),
    )
    op.create_table(
        "signals",
        sa.Column("symbol", sa.String(length=64), nullable=False),
        sa.Column("signal", sa.String(length=16), nullable=False),
        sa.Column("confidence", sa.Float(), nullable=True),
        sa.Column("p_up", sa.Float(), nullable=True),
        sa.Column("bar_time", Instant(), nullable=True),
        sa.Column("created_at", Instant(), nullable=False),
        sa.Column("expires_at", Instant(), nullable=False),
        sa.Column("model_name", sa.String(length=200), nullable=True),
        sa.Column("model_version", sa.String(length=16), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("signal_id", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("symbol"),
    )
    op.create_table(
        "symbol_state",
        sa.Column("symbol", sa.String(length=64), nullable=False),
        sa.Column("bars", sa.Integer(), nullable=False),
        sa.Column("first_bar", Instant(), nullable=True),
        sa.Column("last_bar", Instant(), nullable=True),
        sa.Column("rewriting", sa.Boolean(), nullable=False),
        sa.Column("features_set", sa.String(length=80), nullable=True),
        sa.Column("features_until", Instant(), nullable=True),
        sa.Column("rebuild_features", sa.Boolean(), nullable=False),
        sa.Column("quarantine_cause", sa.String(length=32), nullable=True),
        sa.Column("quarantine_reason", sa.Text(), nullable=True),
        sa.Column("quarantined_at", Instant(), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("next_try", Instant(), nullable=True),
        sa.PrimaryKeyConstraint("symbol"),
    )
    op.create_table(
        "universe",
        sa.Column("symbol", sa.String(length=64), nullable=False),
        sa.Column("source", sa.String(length=16), nullable=False),
        sa.Column("calendar", sa.String(length=16), nullable=False),
        sa.Column("added_at", Instant(), nullable=False),
        sa.Column("retired_at", Instant(), nullable=True),
        sa.PrimaryKeyConstraint("symbol"),
    )


def downgrade() -> None:
    for table in ("universe", "symbol_state", "signals", "profiles", "findings", "decisions", "candidates", "attempts"):
        op.drop_table(table)

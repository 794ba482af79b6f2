"""The recipes of the feature tables, and how far a symbol's patterns are known."""

import sqlalchemy as sa
from alembic import op

from alpha_assets.stores.tables import Instant

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "feature_sets",
        sa.Column("features_set", sa.String(length=80), nullable=False),
        sa.Column("recipe", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("features_set"),
    )
    op.add_column("symbol_state", sa.Column("patterns_set", sa.String(length=80), nullable=True))
    op.add_column("symbol_state", sa.Column("patterns_until", Instant(), nullable=True))
    op.add_column(
        "symbol_state", sa.Column("rebuild_patterns", sa.Boolean(), nullable=False, server_default=sa.false())
    )


def downgrade() -> None:
    for column in ("rebuild_patterns", "patterns_until", "patterns_set"):
        op.drop_column("symbol_state", column)
    op.drop_table("feature_sets")

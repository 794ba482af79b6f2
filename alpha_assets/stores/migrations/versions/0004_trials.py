"""The configurations that were tried of each family."""

import sqlalchemy as sa
from alembic import op

from alpha_assets.stores.tables import Instant

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "trials",
        sa.Column("family", sa.String(length=200), nullable=False),
        sa.Column("configuration", sa.String(length=64), nullable=False),
        sa.Column("score", sa.Float(), nullable=True),
        sa.Column("source", sa.String(length=16), nullable=False),
        sa.Column("seen_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("family", "configuration"),
    )


def downgrade() -> None:
    op.drop_table("trials")

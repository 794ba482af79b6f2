"""Where a decision leaves its version and who speaks there, who took it, how long that took, when it was trained."""

import sqlalchemy as sa
from alembic import op

from alpha_assets.stores.tables import Instant

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

#: What was decided before this revision had no canary, and the gate alone decided.
STAGE = "CASE verdict WHEN 'reject' THEN 'failed' WHEN 'hold' THEN 'staging' ELSE 'production' END"


def upgrade() -> None:
    op.add_column("decisions", sa.Column("trained_at", Instant(), nullable=True))
    op.add_column("decisions", sa.Column("speaker", sa.String(length=16), nullable=True))
    op.add_column("decisions", sa.Column("stage", sa.String(length=16), nullable=False, server_default="production"))
    op.add_column("decisions", sa.Column("who", sa.String(length=64), nullable=False, server_default="gate"))
    op.add_column("decisions", sa.Column("seconds", sa.Float(), nullable=True))
    op.execute(f"UPDATE decisions SET stage = {STAGE}")


def downgrade() -> None:
    for column in ("seconds", "who", "stage", "speaker", "trained_at"):
        op.drop_column("decisions", column)

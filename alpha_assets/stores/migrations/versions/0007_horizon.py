"""How many bars ahead a version looks: what it said live can only be judged by outcomes of that horizon.

Of what was trained before this revision nobody noted it.
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for table in ("candidates", "decisions"):
        op.add_column(table, sa.Column("horizon", sa.Integer(), nullable=True))


def downgrade() -> None:
    for table in ("decisions", "candidates"):
        op.drop_column(table, "horizon")

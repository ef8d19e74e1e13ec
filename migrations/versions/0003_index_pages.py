"""Index the tasks of a user in the orders in which pages read them."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


INDEXES: dict[str, str | sa.TextClause] = {
    "idx_tasks_user_completed_created": sa.text("(created_at + '00:00:00'::interval)"),
    "idx_tasks_user_completed_updated": "updated_at",
}


def upgrade() -> None:
    """Apply; whoever has a large table may create the indexes before, with CONCURRENTLY."""
    for name, moment in INDEXES.items():
        op.create_index(name, "tasks", ["user_id", "completed", moment, "id"], if_not_exists=True)


def downgrade() -> None:
    """Take back."""
    for name in INDEXES:
        op.drop_index(name, "tasks")

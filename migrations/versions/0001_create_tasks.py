"""Create the tasks table."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    utc_now = sa.text("timezone('utc', now())")
    op.create_table(
        "tasks",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("user_id", sa.String(255), nullable=False),
        sa.Column("title", sa.String(200), nullable=False),
        sa.Column("description", sa.Text, nullable=True),
        sa.Column("completed", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("created_at", sa.TIMESTAMP, nullable=False, server_default=utc_now),
        sa.Column("updated_at", sa.TIMESTAMP, nullable=False, server_default=utc_now),
    )
    op.create_index("idx_tasks_user_id", "tasks", ["user_id"])
    op.create_index("idx_tasks_user_completed", "tasks", ["user_id", "completed"])
    op.create_index("idx_tasks_created_at", "tasks", [sa.text("created_at DESC")])


def downgrade() -> None:
    """Take back, all tasks with it."""
    op.drop_table("tasks")

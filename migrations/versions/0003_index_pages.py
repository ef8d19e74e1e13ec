"""Index the tasks of a user in the orders in which pages read them."""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply; whoever has a large table may create the indexes before, with CONCURRENTLY."""
    for moment in ("created", "updated"):
        op.create_index(
            f"idx_tasks_user_completed_{moment}",
            "tasks",
            ["user_id", "completed", f"{moment}_at", "id"],
            if_not_exists=True,
        )


def downgrade() -> None:
    """Take back."""
    for moment in ("created", "updated"):
        op.drop_index(f"idx_tasks_user_completed_{moment}", "tasks")

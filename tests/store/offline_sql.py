"""A migration's SQL, without a database."""

import io

from alembic.migration import MigrationContext
from alembic.operations import Operations
from alembic.script import Script


def offline_sql(script: Script) -> str:
    """All statements of its upgrade, as they would be sent."""
    buffer = io.StringIO()
    context = MigrationContext.configure(dialect_name="postgresql", opts={"as_sql": True, "output_buffer": buffer})
    with Operations.context(context):
        script.module.upgrade()
    return buffer.getvalue()

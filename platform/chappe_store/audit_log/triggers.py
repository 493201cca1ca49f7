"""How a migration puts a table under audit: one call per table, every column named."""

from collections.abc import Sequence

from alembic import op


def audit_table(
    table: str,
    *,
    subject: Sequence[str],
    shown: Sequence[str],
    withheld: Sequence[str] = (),
    tenant_column: str = "",
    only_inserts_when: str = "",
) -> None:
    """Every change of a `shown` or `withheld` column of `table` becomes an entry, in the changing transaction.

    `subject` are the columns that name the row. Of a `withheld` column the entry says that it changed, never what it
    holds. With `only_inserts_when` (SQL on NEW) just the inserts that meet it count.

    Deferred to the commit, where all other locks are held already: the chain's lock is always the last one, so it is
    held briefly and cannot be part of a deadlock.
    """
    events = "INSERT" if only_inserts_when else f"INSERT OR DELETE OR UPDATE OF {', '.join((*shown, *withheld))}"
    condition = f"WHEN ({only_inserts_when})" if only_inserts_when else ""
    arguments = ", ".join(f"'{text}'" for text in (tenant_column, *map(",".join, (subject, shown, withheld))))
    op.execute(
        f"CREATE CONSTRAINT TRIGGER {table}_audit AFTER {events} ON {table} DEFERRABLE INITIALLY DEFERRED "
        f"FOR EACH ROW {condition} EXECUTE FUNCTION audit_change({arguments})"
    )

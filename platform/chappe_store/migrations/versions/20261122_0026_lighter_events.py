"""A usage event is inserted with less beside it: one index fewer, and no trigger for each row.

Forward only. Expand first; contract in a later release, when nothing reads the old shape any more. The release before
this one goes on working meanwhile: it reads first tokens by the index of all the tenant's requests.
"""

from alembic import op

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # A migration that cannot get its lock soon gives up, instead of making every query queue behind it.
    op.execute("SET LOCAL lock_timeout = '3s'")
    op.execute("SET LOCAL statement_timeout = '60s'")
    # First tokens are read of a tenant's latest requests, whatever became of them.
    op.execute("DROP INDEX ix_usage_event_first_token")
    _feed_free_events_at_once()


def _feed_free_events_at_once() -> None:
    # To queue a row's trigger and ask for its condition cost an eighth of the insertion, for events that are hardly
    # ever free. The transition table is there anyhow, for the sums by price.
    op.execute("DROP TRIGGER usage_event_feed ON usage_event")
    op.execute("DROP FUNCTION feed_free_event()")
    op.execute(
        """
        CREATE FUNCTION feed_free_events() RETURNS trigger LANGUAGE plpgsql
        SET search_path = pg_catalog, pg_temp AS $$
        BEGIN
            INSERT INTO public.rated_usage_waiting SELECT request_id, true FROM added WHERE transaction_id IS NULL;
            RETURN NULL;
        END $$
        """
    )
    op.execute(
        "CREATE TRIGGER usage_event_feed AFTER INSERT ON usage_event "
        "REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION feed_free_events()"
    )

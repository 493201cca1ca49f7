"""The rated-usage feed: what waits for it, its numbered batches, what is in them, and what was said about them.

Forward only. Expand first; contract in a later release, when nothing reads the old shape any more.
"""

from alembic import op

from chappe_store.audit_log.triggers import audit_table
from chappe_store.row_security import make_append_only, protect_operator_table, protect_tenant_table
from chappe_store.session import Role

revision = "0021"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # A migration that cannot get its lock soon gives up, instead of making every query queue behind it.
    op.execute("SET LOCAL lock_timeout = '3s'")
    op.execute("SET LOCAL statement_timeout = '60s'")
    # All events of a ledger transaction have its tenant and its time, so this finds them, and a period's as well. Equal
    # keys share one entry of the index: it is small. While it is built, ingestion waits and gateways spool.
    op.execute("CREATE INDEX ix_usage_event_tenant_id_posted_at ON usage_event (tenant_id, posted_at)")
    _create_waiting()
    _create_batches()
    _create_entries()
    _create_receipts()


def _create_waiting() -> None:
    op.execute(
        """
        CREATE TABLE rated_usage_waiting (
            id uuid CONSTRAINT pk_rated_usage_waiting PRIMARY KEY,
            is_event boolean NOT NULL
        )
        """
    )
    # What was posted before there was a feed goes into it first. Row-level security binds the owner too; nobody else
    # gets to see that it is lifted in between.
    for table in ("ledger_transaction", "usage_event"):
        op.execute(f"ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY")
    op.execute(
        "INSERT INTO rated_usage_waiting SELECT id, false FROM ledger_transaction WHERE tenant_id IS NOT NULL "
        "UNION ALL SELECT request_id, true FROM usage_event WHERE transaction_id IS NULL"
    )
    for table in ("ledger_transaction", "usage_event"):
        op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
    protect_operator_table("rated_usage_waiting", {Role.INGEST: "INSERT", Role.OPERATOR: "SELECT, INSERT, DELETE"})
    _follow_what_is_posted()


def _follow_what_is_posted() -> None:
    # Triggers and not statements of the code that posts: whatever posts to the ledger, now or later, is in the feed.
    op.execute(
        """
        CREATE FUNCTION feed_transactions() RETURNS trigger LANGUAGE plpgsql
        SET search_path = pg_catalog, pg_temp AS $$
        BEGIN
            INSERT INTO public.rated_usage_waiting SELECT id, false FROM fresh WHERE tenant_id IS NOT NULL;
            RETURN NULL;
        END $$
        """
    )
    op.execute(
        "CREATE TRIGGER ledger_transaction_feed AFTER INSERT ON ledger_transaction REFERENCING NEW TABLE AS fresh "
        "FOR EACH STATEMENT EXECUTE FUNCTION feed_transactions()"
    )
    # Usage that was free of charge is in no transaction. The others, nearly all, cost no more than the condition.
    op.execute(
        """
        CREATE FUNCTION feed_free_event() RETURNS trigger LANGUAGE plpgsql
        SET search_path = pg_catalog, pg_temp AS $$
        BEGIN
            INSERT INTO public.rated_usage_waiting VALUES (NEW.request_id, true);
            RETURN NULL;
        END $$
        """
    )
    op.execute(
        "CREATE TRIGGER usage_event_feed AFTER INSERT ON usage_event "
        "FOR EACH ROW WHEN (NEW.transaction_id IS NULL) EXECUTE FUNCTION feed_free_event()"
    )


def _create_batches() -> None:
    op.execute(
        """
        CREATE TABLE rated_usage_batch (
            sequence bigint CONSTRAINT pk_rated_usage_batch PRIMARY KEY,
            epoch uuid NOT NULL,
            format bigint NOT NULL,
            closed_at timestamptz NOT NULL DEFAULT now(),
            records bigint NOT NULL,
            records_before bigint NOT NULL,
            size_bytes bigint NOT NULL,
            digest bytea NOT NULL,
            totals jsonb NOT NULL,
            running jsonb NOT NULL,
            previous bytea,
            chain bytea NOT NULL,
            CONSTRAINT ck_rated_usage_batch_numbered CHECK (
                sequence >= 1 AND (sequence = 1) = (previous IS NULL) AND (sequence > 1 OR records_before = 0)
            ),
            CONSTRAINT ck_rated_usage_batch_records CHECK (records >= 1 AND records_before >= 0 AND size_bytes >= 1),
            CONSTRAINT ck_rated_usage_batch_digests CHECK (
                length(digest) = 32 AND length(chain) = 32 AND length(previous) = 32
            ),
            CONSTRAINT uq_rated_usage_batch_records_before UNIQUE (records_before),
            CONSTRAINT uq_rated_usage_batch_chain UNIQUE (chain),
            CONSTRAINT fk_rated_usage_batch_previous_rated_usage_batch
                FOREIGN KEY (previous) REFERENCES rated_usage_batch (chain)
        )
        """
    )
    make_append_only("rated_usage_batch")
    protect_operator_table("rated_usage_batch", {Role.OPERATOR: "SELECT, INSERT"})


def _create_entries() -> None:
    op.execute(
        """
        CREATE TABLE rated_usage_entry (
            sequence bigint NOT NULL CONSTRAINT fk_rated_usage_entry_sequence_rated_usage_batch
                REFERENCES rated_usage_batch DEFERRABLE INITIALLY DEFERRED,
            position bigint NOT NULL,
            tenant_id uuid NOT NULL,
            transaction_id uuid,
            request_id uuid,
            kind text NOT NULL,
            currency text NOT NULL,
            records bigint NOT NULL,
            amount_nano bigint NOT NULL,
            posted_at timestamptz NOT NULL,
            CONSTRAINT pk_rated_usage_entry PRIMARY KEY (sequence, position),
            CONSTRAINT uq_rated_usage_entry_transaction_id UNIQUE (transaction_id),
            CONSTRAINT uq_rated_usage_entry_request_id UNIQUE (request_id),
            CONSTRAINT ck_rated_usage_entry_subject CHECK (num_nonnulls(transaction_id, request_id) = 1),
            CONSTRAINT ck_rated_usage_entry_records CHECK (position >= 0 AND records >= 1)
        )
        """
    )
    op.execute(
        "CREATE INDEX ix_rated_usage_entry_tenant_id_sequence_position "
        "ON rated_usage_entry (tenant_id, sequence, position)"
    )
    make_append_only("rated_usage_entry")
    protect_tenant_table("rated_usage_entry", {Role.OPERATOR: "SELECT, INSERT"})


def _create_receipts() -> None:
    op.execute(
        """
        CREATE TABLE rated_usage_receipt (
            id uuid CONSTRAINT pk_rated_usage_receipt PRIMARY KEY,
            sequence bigint NOT NULL CONSTRAINT fk_rated_usage_receipt_sequence_rated_usage_batch
                REFERENCES rated_usage_batch,
            kind text NOT NULL CONSTRAINT ck_rated_usage_receipt_kind CHECK (kind IN ('acknowledged', 'requested')),
            reason text,
            created_at timestamptz NOT NULL DEFAULT now(),
            CONSTRAINT ck_rated_usage_receipt_reason CHECK (
                (kind = 'requested') = (reason IS NOT NULL) AND length(reason) BETWEEN 1 AND 500
            )
        )
        """
    )
    op.execute(
        "CREATE UNIQUE INDEX uq_rated_usage_receipt_acknowledged ON rated_usage_receipt (sequence) "
        "WHERE kind = 'acknowledged'"
    )
    op.execute("CREATE INDEX ix_rated_usage_receipt_sequence ON rated_usage_receipt (sequence)")
    op.execute(
        "CREATE INDEX ix_rated_usage_receipt_requested ON rated_usage_receipt (created_at) WHERE kind = 'requested'"
    )
    make_append_only("rated_usage_receipt")
    protect_operator_table("rated_usage_receipt", {Role.OPERATOR: "SELECT, INSERT"})
    audit_table("rated_usage_receipt", subject=("id",), shown=("sequence", "kind", "reason"))

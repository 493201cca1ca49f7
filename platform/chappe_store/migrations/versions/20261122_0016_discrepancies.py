"""Both witnesses' counts beside each usage event, and the discrepancies between them.

Forward only. Expand first; contract in a later release, when nothing reads the old shape any more.
"""

from alembic import op

from chappe_store.row_security import protect_tenant_table
from chappe_store.session import Role

revision = "0016"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # A migration that cannot get its lock soon gives up, instead of making every query queue behind it.
    op.execute("SET LOCAL lock_timeout = '3s'")
    op.execute("SET LOCAL statement_timeout = '60s'")
    _widen_usage()
    _create_discrepancies()
    _admit_corrections()


def _widen_usage() -> None:
    # Nothing is rewritten: events of before have no counts of witnesses, and the default is a constant.
    op.execute(
        """
        ALTER TABLE usage_event
            ADD COLUMN delivered_tokens bigint,
            ADD COLUMN generated_tokens bigint,
            ADD COLUMN settled_by text NOT NULL DEFAULT 'gateway'
        """
    )


def _create_discrepancies() -> None:
    op.execute(
        """
        CREATE TABLE usage_discrepancy (
            id uuid CONSTRAINT pk_usage_discrepancy PRIMARY KEY,
            request_id uuid NOT NULL,
            digest bytea NOT NULL,
            tenant_id uuid NOT NULL,
            region text NOT NULL,
            gateway text NOT NULL,
            kind text NOT NULL CONSTRAINT ck_usage_discrepancy_kind CHECK (
                kind IN ('witnesses_differ', 'later_record')
            ),
            outcome text NOT NULL CONSTRAINT ck_usage_discrepancy_outcome CHECK (
                outcome IN ('completed', 'disconnected', 'failed')
            ),
            prompt_tokens bigint NOT NULL,
            cached_tokens bigint NOT NULL,
            completion_tokens bigint NOT NULL,
            amount_nano bigint NOT NULL,
            opened_at timestamptz NOT NULL DEFAULT now(),
            resolved_at timestamptz,
            reason text,
            corrected_nano bigint,
            transaction_id uuid,
            CONSTRAINT uq_usage_discrepancy_request_id_digest UNIQUE (request_id, digest),
            CONSTRAINT ck_usage_discrepancy_resolution CHECK (
                (resolved_at IS NULL) = (reason IS NULL) AND (resolved_at IS NOT NULL OR corrected_nano IS NULL)
            ),
            CONSTRAINT ck_usage_discrepancy_correction CHECK (
                corrected_nano > 0 AND transaction_id IS NOT NULL OR corrected_nano IS NULL AND transaction_id IS NULL
            )
        )
        """
    )
    op.execute("CREATE INDEX ix_usage_discrepancy_tenant_id_request_id ON usage_discrepancy (tenant_id, request_id)")
    op.execute("CREATE INDEX ix_usage_discrepancy_open ON usage_discrepancy (id) WHERE resolved_at IS NULL")
    protect_tenant_table(
        "usage_discrepancy",
        {
            Role.INGEST: "SELECT, INSERT",
            Role.OPERATOR: "SELECT, UPDATE (resolved_at, reason, corrected_nano, transaction_id)",
        },
    )
    # What is resolved stays as it was decided.
    op.execute(
        """
        CREATE FUNCTION keep_resolution() RETURNS trigger LANGUAGE plpgsql
        SET search_path = pg_catalog, pg_temp AS $$
        BEGIN
            IF TG_OP = 'DELETE' OR OLD.resolved_at IS NOT NULL THEN
                RAISE EXCEPTION '% is resolved once', TG_TABLE_NAME USING ERRCODE = 'insufficient_privilege';
            END IF;
            RETURN NEW;
        END $$
        """
    )
    op.execute(
        "CREATE TRIGGER usage_discrepancy_resolved_once BEFORE UPDATE OR DELETE ON usage_discrepancy "
        "FOR EACH ROW EXECUTE FUNCTION keep_resolution()"
    )


def _admit_corrections() -> None:
    op.execute("ALTER TABLE ledger_transaction DROP CONSTRAINT ck_ledger_transaction_kind")
    # Not checked against old rows: the old constraint admitted fewer kinds.
    op.execute(
        "ALTER TABLE ledger_transaction ADD CONSTRAINT ck_ledger_transaction_kind "
        "CHECK (kind IN ('welcome_credit', 'usage', 'usage_correction')) NOT VALID"
    )
    op.execute("ALTER TABLE ledger_transaction VALIDATE CONSTRAINT ck_ledger_transaction_kind")

"""How a legal entity collects what it is owed, and the ledger's kinds of invoices and payments.

Forward only. Expand first; contract in a later release, when nothing reads the old shape any more.
"""

from alembic import op

from chappe_store.audit_log.triggers import audit_table
from chappe_store.session import Role

revision = "0030"
down_revision = "0029"
branch_labels = None
depends_on = None

_ENTITY_COLUMNS = (
    *("currency", "name", "address_line_1", "address_line_2", "postal_code", "city", "country"),
    *("vat_number", "registration", "payments"),
)


def upgrade() -> None:
    # A migration that cannot get its lock soon gives up, instead of making every query queue behind it.
    op.execute("SET LOCAL lock_timeout = '3s'")
    op.execute("SET LOCAL statement_timeout = '60s'")
    # Nobody's money is collected before somebody says how: a constant default, which rewrites nothing.
    op.execute(
        """
        ALTER TABLE legal_entity ADD COLUMN payments text NOT NULL DEFAULT 'none'
            CONSTRAINT ck_legal_entity_payments CHECK (payments IN ('stripe', 'external', 'none'))
        """
    )
    op.execute(f"GRANT UPDATE (payments) ON legal_entity TO {Role.OPERATOR}")
    op.execute("DROP TRIGGER legal_entity_audit ON legal_entity")
    audit_table("legal_entity", subject=("id",), shown=_ENTITY_COLUMNS)
    # Not checked against old rows: the old constraint admitted fewer kinds.
    op.execute(
        """
        ALTER TABLE ledger_transaction DROP CONSTRAINT ck_ledger_transaction_kind,
            ADD CONSTRAINT ck_ledger_transaction_kind CHECK (kind IN (
                'welcome_credit', 'usage', 'usage_correction', 'top_up', 'refund', 'chargeback', 'goodwill_credit',
                'volume_discount', 'minimum_fee', 'commitment_fee', 'invoice', 'credit_note', 'payment', 'write_off',
                'suspense', 'publisher_share', 'reversal'
            )) NOT VALID
        """
    )
    op.execute("ALTER TABLE ledger_transaction VALIDATE CONSTRAINT ck_ledger_transaction_kind")

"""Payments in suspense, publishers' payouts, tenants in their seller's currency, shares taken back exactly.

Forward only. Expand first; contract in a later release, when nothing reads the old shape any more.
"""

from alembic import op

revision = "0025"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # A migration that cannot get its lock soon gives up, instead of making every query queue behind it.
    op.execute("SET LOCAL lock_timeout = '3s'")
    op.execute("SET LOCAL statement_timeout = '60s'")
    _name_own_transactions()
    _keep_tenants_in_their_sellers_currency()
    _take_back_what_was_shared()


def _name_own_transactions() -> None:
    # What the operator books without a tenant is found again by its reference. No release has posted either kind yet.
    op.execute(
        "ALTER TABLE ledger_transaction ADD CONSTRAINT ck_ledger_transaction_own CHECK ("
        "kind NOT IN ('suspense', 'publisher_share') OR (tenant_id IS NULL AND reference IS NOT NULL)) NOT VALID"
    )
    op.execute("ALTER TABLE ledger_transaction VALIDATE CONSTRAINT ck_ledger_transaction_own")
    op.execute("CREATE INDEX ix_ledger_transaction_suspense ON ledger_transaction (id) WHERE kind = 'suspense'")


def _keep_tenants_in_their_sellers_currency() -> None:
    # Budgets are so already. Who has no budget yet could not get one in another currency, and says so here.
    op.execute(
        "ALTER TABLE tenant ADD CONSTRAINT fk_tenant_legal_entity_id_currency_legal_entity "
        "FOREIGN KEY (legal_entity_id, currency) REFERENCES legal_entity (id, currency) NOT VALID"
    )
    op.execute("ALTER TABLE tenant VALIDATE CONSTRAINT fk_tenant_legal_entity_id_currency_legal_entity")


def _take_back_what_was_shared() -> None:
    # Whatever was posted under the old rule meets the new one.
    op.execute(
        "ALTER TABLE publisher_share DROP CONSTRAINT ck_publisher_share_share_nano, "
        "ADD CONSTRAINT ck_publisher_share_share_nano CHECK ("
        "CASE WHEN base_nano < 0 THEN share_nano BETWEEN div(base_nano::numeric * share_bp, 10000) - 2 AND 0 "
        "ELSE share_nano = div(base_nano::numeric * share_bp, 10000) END) NOT VALID"
    )
    op.execute("ALTER TABLE publisher_share VALIDATE CONSTRAINT ck_publisher_share_share_nano")

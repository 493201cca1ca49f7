"""Mail: what the outbox needs to deliver it, and the links that prove that somebody reads an address.

Forward only. Expand first; contract in a later release, when nothing reads the old shape any more.
"""

from alembic import op

from chappe_store.row_security import protect_operator_table
from chappe_store.session import Role

revision = "0014"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # A migration that cannot get its lock soon gives up, instead of making every query queue behind it.
    op.execute("SET LOCAL lock_timeout = '3s'")
    op.execute("SET LOCAL statement_timeout = '60s'")
    _let_the_outbox_be_delivered()
    _create_links()


def _let_the_outbox_be_delivered() -> None:
    op.execute(
        """
        ALTER TABLE outbox
            ADD COLUMN due_at timestamptz NOT NULL DEFAULT now(),
            ADD COLUMN expires_at timestamptz,
            ADD COLUMN attempts bigint NOT NULL DEFAULT 0,
            ADD COLUMN given_up_at timestamptz
        """
    )
    op.execute(
        "CREATE INDEX ix_outbox_topic_due_at ON outbox (topic, due_at) "
        "WHERE delivered_at IS NULL AND given_up_at IS NULL"
    )
    # The payload too: what was delivered is nobody's business any more.
    op.execute(f"GRANT UPDATE (payload, due_at, attempts, given_up_at) ON outbox TO {Role.OPERATOR}")


def _create_links() -> None:
    # Of nobody yet, so of no tenant: who opens one becomes somebody, or proves to be.
    op.execute(
        """
        CREATE TABLE mail_link (
            id uuid CONSTRAINT pk_mail_link PRIMARY KEY,
            purpose text NOT NULL CONSTRAINT ck_mail_link_purpose CHECK (purpose IN ('sign_up', 'password_reset')),
            email text NOT NULL,
            organisation text
                CONSTRAINT ck_mail_link_organisation CHECK ((purpose = 'sign_up') = (organisation IS NOT NULL)),
            digest bytea NOT NULL CONSTRAINT uq_mail_link_digest UNIQUE
                CONSTRAINT ck_mail_link_digest CHECK (length(digest) = 32),
            created_at timestamptz NOT NULL DEFAULT now(),
            expires_at timestamptz NOT NULL CONSTRAINT ck_mail_link_expires_at CHECK (expires_at > created_at)
        )
        """
    )
    op.execute("CREATE INDEX ix_mail_link_email_purpose ON mail_link (email, purpose)")
    op.execute("CREATE INDEX ix_mail_link_expires_at ON mail_link (expires_at)")
    protect_operator_table("mail_link", {Role.OPERATOR: "SELECT, INSERT, DELETE"})

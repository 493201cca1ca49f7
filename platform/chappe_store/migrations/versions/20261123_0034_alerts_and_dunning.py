"""Alerts and who hears of them, tenants' webhooks, failed payments, and dunning.

Forward only. Expand first; contract in a later release, when nothing reads the old shape any more.
"""

from alembic import op

from chappe_store.audit_log.triggers import audit_table
from chappe_store.row_security import make_append_only, protect_operator_table, protect_tenant_table
from chappe_store.session import Role

revision = "0034"
down_revision = "0033"
branch_labels = None
depends_on = None

_SETTINGS = (
    *("muted", "to_members", "emails", "language", "low_balance_nano", "low_balance_days"),
    "forecast_limit_nano",
)
_ENDPOINT = ("url", "description", "kinds", "disabled_at", "disabled_reason", "removed_at")
_SECRETS = ("secret", "old_secret", "old_secret_until")
_POLICY = ("enabled", "reminder_days", "notice_days", "retry_days", "suspend_days", "grace_days")


def upgrade() -> None:
    # A migration that cannot get its lock soon gives up, instead of making every query queue behind it.
    op.execute("SET LOCAL lock_timeout = '3s'")
    op.execute("SET LOCAL statement_timeout = '60s'")
    _know_languages()
    _create_alerts()
    _create_payment_failures()
    _create_endpoints()
    _create_deliveries()
    _create_dunning()
    _create_dunning_log()


def _know_languages() -> None:
    # In which language somebody last used the portal: so letters that nobody asked for can be in it.
    op.execute("ALTER TABLE member ADD COLUMN language text")
    op.execute(f"GRANT UPDATE (language) ON member TO {Role.APP}")


def _create_alerts() -> None:
    op.execute(
        """
        CREATE TABLE alert_settings (
            tenant_id uuid CONSTRAINT pk_alert_settings PRIMARY KEY
                CONSTRAINT fk_alert_settings_tenant_id_tenant REFERENCES tenant,
            muted text[] NOT NULL DEFAULT '{}',
            to_members boolean NOT NULL DEFAULT true,
            emails text[] NOT NULL DEFAULT '{}'
                CONSTRAINT ck_alert_settings_emails CHECK (cardinality(emails) <= 10),
            language text,
            low_balance_nano bigint CONSTRAINT ck_alert_settings_low_balance_nano CHECK (low_balance_nano >= 0),
            low_balance_days bigint DEFAULT 7
                CONSTRAINT ck_alert_settings_low_balance_days CHECK (low_balance_days BETWEEN 1 AND 90),
            forecast_limit_nano bigint CONSTRAINT ck_alert_settings_forecast_limit_nano CHECK (forecast_limit_nano > 0)
        )
        """
    )
    protect_tenant_table("alert_settings", {Role.APP: "SELECT, INSERT, UPDATE", Role.OPERATOR: "SELECT"})
    audit_table("alert_settings", subject=("tenant_id",), tenant_column="tenant_id", shown=_SETTINGS)
    op.execute(
        """
        CREATE TABLE alert (
            tenant_id uuid NOT NULL CONSTRAINT fk_alert_tenant_id_tenant REFERENCES tenant,
            id uuid NOT NULL,
            kind text NOT NULL,
            subject text NOT NULL,
            figures jsonb NOT NULL,
            raised_at timestamptz NOT NULL DEFAULT now(),
            recovered_at timestamptz,
            CONSTRAINT pk_alert PRIMARY KEY (tenant_id, id)
        )
        """
    )
    # What makes a crossing be told once, however many look for it, and again after it recovered.
    op.execute("CREATE UNIQUE INDEX uq_alert_standing ON alert (tenant_id, kind, subject) WHERE recovered_at IS NULL")
    protect_tenant_table("alert", {Role.APP: "SELECT", Role.OPERATOR: "SELECT, INSERT, UPDATE (recovered_at)"})


def _create_payment_failures() -> None:
    op.execute(
        """
        CREATE TABLE payment_failure (
            tenant_id uuid NOT NULL CONSTRAINT fk_payment_failure_tenant_id_tenant REFERENCES tenant,
            id uuid NOT NULL,
            invoice_id uuid,
            amount_nano bigint NOT NULL,
            currency text NOT NULL,
            reason text NOT NULL,
            failed_at timestamptz NOT NULL DEFAULT now(),
            recovered_at timestamptz,
            CONSTRAINT pk_payment_failure PRIMARY KEY (tenant_id, id)
        )
        """
    )
    op.execute(
        "CREATE INDEX ix_payment_failure_standing ON payment_failure (tenant_id, invoice_id) WHERE recovered_at IS NULL"
    )
    protect_tenant_table(
        "payment_failure", {Role.APP: "SELECT", Role.OPERATOR: "SELECT, INSERT, UPDATE (recovered_at)"}
    )


def _create_endpoints() -> None:
    op.execute(
        """
        CREATE TABLE webhook_endpoint (
            tenant_id uuid NOT NULL CONSTRAINT fk_webhook_endpoint_tenant_id_tenant REFERENCES tenant,
            id uuid NOT NULL,
            url text NOT NULL CONSTRAINT ck_webhook_endpoint_url CHECK (length(url) <= 2000),
            description text NOT NULL,
            kinds text[] NOT NULL CONSTRAINT ck_webhook_endpoint_kinds CHECK (cardinality(kinds) > 0),
            secret bytea NOT NULL,
            old_secret bytea,
            old_secret_until timestamptz,
            failing_since timestamptz,
            disabled_at timestamptz,
            disabled_reason text,
            created_at timestamptz NOT NULL DEFAULT now(),
            removed_at timestamptz,
            CONSTRAINT pk_webhook_endpoint PRIMARY KEY (tenant_id, id),
            CONSTRAINT ck_webhook_endpoint_old_secret CHECK ((old_secret IS NULL) = (old_secret_until IS NULL)),
            CONSTRAINT ck_webhook_endpoint_disabled CHECK ((disabled_at IS NULL) = (disabled_reason IS NULL))
        )
        """
    )
    changed = ("url", "description", "kinds", *_SECRETS, "failing_since", "disabled_at", "disabled_reason")
    protect_tenant_table(
        "webhook_endpoint",
        {
            Role.APP: f"SELECT, INSERT, UPDATE ({', '.join((*changed, 'removed_at'))})",
            Role.OPERATOR: "SELECT, UPDATE (failing_since, disabled_at, disabled_reason)",
        },
    )
    audit_table(
        "webhook_endpoint",
        subject=("id",),
        tenant_column="tenant_id",
        shown=_ENDPOINT,
        withheld=("secret", "old_secret"),
    )


def _create_deliveries() -> None:
    op.execute(
        """
        CREATE TABLE webhook_event (
            tenant_id uuid NOT NULL CONSTRAINT fk_webhook_event_tenant_id_tenant REFERENCES tenant,
            id uuid NOT NULL,
            kind text NOT NULL,
            body text NOT NULL,
            created_at timestamptz NOT NULL DEFAULT now(),
            CONSTRAINT pk_webhook_event PRIMARY KEY (tenant_id, id)
        )
        """
    )
    protect_tenant_table("webhook_event", {Role.APP: "SELECT, INSERT", Role.OPERATOR: "SELECT, INSERT, DELETE"})
    op.execute(
        """
        CREATE TABLE webhook_delivery (
            tenant_id uuid NOT NULL,
            id uuid NOT NULL,
            endpoint_id uuid NOT NULL,
            event_id uuid NOT NULL,
            redelivers uuid,
            state text NOT NULL DEFAULT 'waiting'
                CONSTRAINT ck_webhook_delivery_state CHECK (state IN ('waiting', 'delivered', 'failed')),
            attempts bigint NOT NULL DEFAULT 0,
            next_at timestamptz,
            created_at timestamptz NOT NULL DEFAULT now(),
            ended_at timestamptz,
            CONSTRAINT pk_webhook_delivery PRIMARY KEY (tenant_id, id),
            CONSTRAINT fk_webhook_delivery_tenant_id_endpoint_id_webhook_endpoint
                FOREIGN KEY (tenant_id, endpoint_id) REFERENCES webhook_endpoint (tenant_id, id),
            CONSTRAINT fk_webhook_delivery_tenant_id_event_id_webhook_event
                FOREIGN KEY (tenant_id, event_id) REFERENCES webhook_event (tenant_id, id) ON DELETE CASCADE,
            CONSTRAINT ck_webhook_delivery_ended CHECK ((state = 'waiting') = (ended_at IS NULL))
        )
        """
    )
    op.execute("CREATE INDEX ix_webhook_delivery_endpoint ON webhook_delivery (tenant_id, endpoint_id, id)")
    op.execute("CREATE INDEX ix_webhook_delivery_event ON webhook_delivery (tenant_id, event_id)")
    # One event goes to one endpoint once; what somebody sends again says so.
    op.execute(
        "CREATE UNIQUE INDEX uq_webhook_delivery_once ON webhook_delivery (tenant_id, endpoint_id, event_id) "
        "WHERE redelivers IS NULL"
    )
    protect_tenant_table(
        "webhook_delivery",
        {
            Role.APP: "SELECT, INSERT",
            Role.OPERATOR: "SELECT, INSERT, UPDATE (state, attempts, next_at, ended_at), DELETE",
        },
    )
    op.execute(
        """
        CREATE TABLE webhook_attempt (
            tenant_id uuid NOT NULL,
            delivery_id uuid NOT NULL,
            attempt bigint NOT NULL,
            status bigint,
            error text,
            duration_ms bigint NOT NULL,
            tried_at timestamptz NOT NULL DEFAULT now(),
            CONSTRAINT pk_webhook_attempt PRIMARY KEY (tenant_id, delivery_id, attempt),
            CONSTRAINT fk_webhook_attempt_tenant_id_delivery_id_webhook_delivery
                FOREIGN KEY (tenant_id, delivery_id) REFERENCES webhook_delivery (tenant_id, id) ON DELETE CASCADE
        )
        """
    )
    protect_tenant_table("webhook_attempt", {Role.APP: "SELECT", Role.OPERATOR: "SELECT, INSERT, DELETE"})


def _create_dunning() -> None:
    op.execute(
        """
        CREATE TABLE dunning_policy (
            legal_entity_id uuid CONSTRAINT pk_dunning_policy PRIMARY KEY
                CONSTRAINT fk_dunning_policy_legal_entity_id_legal_entity REFERENCES legal_entity,
            enabled boolean NOT NULL,
            reminder_days bigint CONSTRAINT ck_dunning_policy_reminder_days CHECK (reminder_days BETWEEN 1 AND 60),
            notice_days bigint[] NOT NULL
                CONSTRAINT ck_dunning_policy_notice_days CHECK (cardinality(notice_days) BETWEEN 1 AND 5),
            retry_days bigint[] NOT NULL
                CONSTRAINT ck_dunning_policy_retry_days CHECK (cardinality(retry_days) <= 10),
            suspend_days bigint CONSTRAINT ck_dunning_policy_suspend_days CHECK (suspend_days BETWEEN 1 AND 365),
            grace_days bigint NOT NULL CONSTRAINT ck_dunning_policy_grace_days CHECK (grace_days BETWEEN 1 AND 60)
        )
        """
    )
    protect_operator_table("dunning_policy", {Role.OPERATOR: "SELECT, INSERT, UPDATE"})
    audit_table("dunning_policy", subject=("legal_entity_id",), shown=_POLICY)
    op.execute(
        """
        CREATE TABLE dunning_pause (
            tenant_id uuid NOT NULL CONSTRAINT fk_dunning_pause_tenant_id_tenant REFERENCES tenant,
            id uuid NOT NULL,
            reason text NOT NULL,
            until timestamptz NOT NULL,
            created_at timestamptz NOT NULL DEFAULT now(),
            ended_at timestamptz,
            CONSTRAINT pk_dunning_pause PRIMARY KEY (tenant_id, id)
        )
        """
    )
    op.execute("CREATE UNIQUE INDEX uq_dunning_pause_open ON dunning_pause (tenant_id) WHERE ended_at IS NULL")
    protect_tenant_table("dunning_pause", {Role.OPERATOR: "SELECT, INSERT, UPDATE (ended_at)"})
    audit_table("dunning_pause", subject=("id",), tenant_column="tenant_id", shown=("reason", "until", "ended_at"))


def _create_dunning_log() -> None:
    op.execute(
        """
        CREATE TABLE dunning_step (
            tenant_id uuid NOT NULL CONSTRAINT fk_dunning_step_tenant_id_tenant REFERENCES tenant,
            invoice_id uuid NOT NULL,
            kind text NOT NULL
                CONSTRAINT ck_dunning_step_kind CHECK (kind IN ('reminder', 'notice', 'retry', 'suspension')),
            level bigint NOT NULL,
            open_nano bigint NOT NULL,
            currency text NOT NULL,
            number text NOT NULL,
            due_on date NOT NULL,
            taken_at timestamptz NOT NULL DEFAULT now(),
            -- Each step once, whoever takes it and however often it is begun.
            CONSTRAINT pk_dunning_step PRIMARY KEY (tenant_id, invoice_id, kind, level)
        )
        """
    )
    op.execute("CREATE INDEX ix_dunning_step_taken_at ON dunning_step (taken_at)")
    protect_tenant_table("dunning_step", {Role.OPERATOR: "SELECT, INSERT"})
    make_append_only("dunning_step")
    op.execute(
        """
        CREATE TABLE dunning_suspension (
            tenant_id uuid NOT NULL CONSTRAINT fk_dunning_suspension_tenant_id_tenant REFERENCES tenant,
            id uuid NOT NULL,
            invoice_id uuid NOT NULL,
            suspended_at timestamptz NOT NULL DEFAULT now(),
            lifted_at timestamptz,
            CONSTRAINT pk_dunning_suspension PRIMARY KEY (tenant_id, id)
        )
        """
    )
    op.execute(
        "CREATE UNIQUE INDEX uq_dunning_suspension_standing ON dunning_suspension (tenant_id) WHERE lifted_at IS NULL"
    )
    protect_tenant_table("dunning_suspension", {Role.OPERATOR: "SELECT, INSERT, UPDATE (lifted_at)"})

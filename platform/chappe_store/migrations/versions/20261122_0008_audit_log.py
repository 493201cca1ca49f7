"""The audit log: entries that triggers write and chain, checkpoints that the control plane signs.

Forward only. Expand first; contract in a later release, when nothing reads the old shape any more.
"""

from alembic import op

from chappe_store.audit_log.triggers import audit_table
from chappe_store.row_security import AUDIT, hand_over, make_append_only, protect_operator_table, protect_tenant_table
from chappe_store.session import Role

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

# Any constant will do; it makes committing transactions take turns at the end of the chain.
_CHAIN_LOCK = 0x6368617070650003


def upgrade() -> None:
    # A migration that cannot get its lock soon gives up, instead of making every query queue behind it.
    op.execute("SET LOCAL lock_timeout = '3s'")
    op.execute("SET LOCAL statement_timeout = '60s'")
    _create_role()
    _create_tables()
    _create_encoding()
    _create_recorder()
    _create_trigger_function()
    _audit_tenants()
    _audit_catalogue()
    _audit_money()


def _create_role() -> None:
    # Roles belong to the whole server: another database of the same server may have made it already.
    op.execute(
        f"DO $$ BEGIN CREATE ROLE {AUDIT} NOLOGIN NOBYPASSRLS; EXCEPTION WHEN duplicate_object THEN NULL; END $$"
    )
    op.execute(f"GRANT {AUDIT} TO CURRENT_USER WITH INHERIT FALSE, SET TRUE")
    op.execute(f"GRANT USAGE ON SCHEMA public TO {AUDIT}")


def _create_tables() -> None:
    op.execute(
        """
        CREATE TABLE audit_entry (
            sequence bigint CONSTRAINT pk_audit_entry PRIMARY KEY,
            id uuid NOT NULL CONSTRAINT uq_audit_entry_id UNIQUE,
            recorded_at timestamptz NOT NULL CONSTRAINT ck_audit_entry_recorded_at CHECK (isfinite(recorded_at)),
            tenant_id uuid,
            actor_kind text NOT NULL,
            actor text NOT NULL,
            address text,
            request_id uuid,
            action text NOT NULL
                CONSTRAINT ck_audit_entry_action CHECK (action IN ('created', 'changed', 'removed')),
            noun text NOT NULL,
            subject text NOT NULL,
            before json CONSTRAINT ck_audit_entry_before CHECK (json_typeof(before) = 'object'),
            after json CONSTRAINT ck_audit_entry_after CHECK (json_typeof(after) = 'object'),
            hash bytea NOT NULL CONSTRAINT ck_audit_entry_hash CHECK (length(hash) = 32)
        )
        """
    )
    op.execute("CREATE INDEX ix_audit_entry_tenant_id_sequence ON audit_entry (tenant_id, sequence)")
    op.execute(
        """
        CREATE TABLE audit_checkpoint (
            sequence bigint CONSTRAINT pk_audit_checkpoint PRIMARY KEY,
            hash bytea NOT NULL CONSTRAINT ck_audit_checkpoint_hash CHECK (length(hash) = 32),
            made_at timestamptz NOT NULL CONSTRAINT ck_audit_checkpoint_made_at CHECK (isfinite(made_at)),
            key_version bigint NOT NULL,
            previous_signature bytea,
            signature bytea NOT NULL CONSTRAINT uq_audit_checkpoint_signature UNIQUE
                CONSTRAINT ck_audit_checkpoint_signature CHECK (length(signature) = 64)
        )
        """
    )
    for table in ("audit_entry", "audit_checkpoint"):
        make_append_only(table)
    # Nobody may insert an entry but the triggers' own role.
    protect_tenant_table("audit_entry", {Role.APP: "SELECT", Role.OPERATOR: "SELECT", AUDIT: "SELECT, INSERT"})
    protect_operator_table("audit_checkpoint", {Role.OPERATOR: "SELECT, INSERT"})


def _create_encoding() -> None:
    # What `chappe_store.audit_log.chain.encode` does as well: each field with its length in front, so that no two
    # entries are written alike; a missing one is `~`.
    op.execute(
        """
        CREATE FUNCTION audit_encoding(VARIADIC fields text[]) RETURNS bytea LANGUAGE sql IMMUTABLE
        SET search_path = pg_catalog, pg_temp AS $$
            SELECT convert_to(string_agg(
                CASE WHEN field IS NULL THEN '~' ELSE length(convert_to(field, 'UTF8')) || ':' || field END,
                '' ORDER BY position), 'UTF8')
            FROM unnest(fields) WITH ORDINALITY AS listed (field, position)
        $$
        """
    )
    op.execute(f"GRANT EXECUTE ON FUNCTION audit_encoding(text[]) TO {AUDIT}")
    # The columns that differ, as they were and as they are. NULL for a row that was not there stays out of the
    # comparison, since `NULL -> name` is SQL's NULL and a column's own null is JSON's. Amounts become strings: other
    # programs' JSON numbers lose digits.
    op.execute(
        """
        CREATE FUNCTION audit_fields(was jsonb, is_now jsonb, shown text[], withheld text[]) RETURNS jsonb[]
        LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
            SELECT ARRAY[
                jsonb_object_agg(name, CASE WHEN hidden AND was -> name <> 'null' THEN '"withheld"'
                    WHEN name LIKE '%\\_nano%' AND was -> name <> 'null' THEN to_jsonb(was ->> name)
                    ELSE was -> name END),
                jsonb_object_agg(name, CASE WHEN hidden AND is_now -> name <> 'null' THEN '"withheld"'
                    WHEN name LIKE '%\\_nano%' AND is_now -> name <> 'null' THEN to_jsonb(is_now ->> name)
                    ELSE is_now -> name END)]
            FROM (SELECT name, false AS hidden FROM unnest(shown) AS name
                  UNION ALL SELECT name, true FROM unnest(withheld) AS name) AS listed
            WHERE was -> name IS DISTINCT FROM is_now -> name
        $$
        """
    )
    op.execute(f"GRANT EXECUTE ON FUNCTION audit_fields(jsonb, jsonb, text[], text[]) TO {AUDIT}")


def _create_recorder() -> None:
    # The lock is held until the transaction has ended, so what follows sees a committed predecessor. A transaction
    # with a snapshot from before (REPEATABLE READ) would take a number twice, and fails on the primary key.
    op.execute(
        f"""
        CREATE FUNCTION append_audit_entry(
            tenant uuid, origin jsonb, action text, noun text, subject text, was json, is_now json
        ) RETURNS void LANGUAGE plpgsql SECURITY DEFINER
        SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
        DECLARE
            last record;
            entry public.audit_entry;
        BEGIN
            PERFORM pg_advisory_xact_lock({_CHAIN_LOCK});
            SELECT e.sequence, e.hash INTO last FROM public.audit_entry e ORDER BY e.sequence DESC LIMIT 1;
            entry := (
                coalesce(last.sequence, 0) + 1, uuidv7(), clock_timestamp(), tenant, origin ->> 'kind',
                origin ->> 'actor', origin ->> 'address', (origin ->> 'request_id')::uuid, action, noun, subject,
                was, is_now, NULL
            );
            entry.hash := sha256(public.audit_encoding(
                'chappe audit entry 1', encode(coalesce(last.hash, sha256('')), 'hex'),
                entry.sequence::text, entry.id::text, (extract(epoch FROM entry.recorded_at) * 1000000)::bigint::text,
                entry.tenant_id::text, entry.actor_kind, entry.actor, entry.address, entry.request_id::text,
                entry.action, entry.noun, entry.subject, entry.before::text, entry.after::text
            ));
            INSERT INTO public.audit_entry SELECT entry.*;
        END $$
        """
    )


def _create_trigger_function() -> None:
    # Its arguments are the tenant's column, the subject's columns, the columns to show, the columns to withhold.
    # A role of the application that does not say who it acts for may change nothing. Without such a role it is somebody
    # with the database itself: a migration, or an administrator with psql. That is written down too.
    op.execute(
        """
        CREATE FUNCTION audit_change() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
        SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
        DECLARE
            was jsonb := CASE WHEN TG_OP <> 'INSERT' THEN to_jsonb(OLD) END;
            is_now jsonb := CASE WHEN TG_OP <> 'DELETE' THEN to_jsonb(NEW) END;
            origin jsonb := nullif(current_setting('chappe.origin', true), '')::jsonb;
            fields jsonb[];
        BEGIN
            fields := public.audit_fields(
                was, is_now, string_to_array(TG_ARGV[2], ','), string_to_array(TG_ARGV[3], ','));
            IF fields[1] IS NULL AND fields[2] IS NULL THEN
                RETURN NULL;
            END IF;
            IF origin IS NULL AND current_setting('role') <> 'none' THEN
                RAISE EXCEPTION 'nobody is named who changes %', TG_TABLE_NAME USING ERRCODE = 'insufficient_privilege';
            END IF;
            PERFORM public.append_audit_entry(
                (coalesce(is_now, was) ->> nullif(TG_ARGV[0], ''))::uuid,
                coalesce(origin, jsonb_build_object(
                    'kind', 'database', 'actor', session_user, 'address', host(inet_client_addr()))),
                CASE TG_OP WHEN 'INSERT' THEN 'created' WHEN 'UPDATE' THEN 'changed' ELSE 'removed' END,
                TG_TABLE_NAME,
                (SELECT string_agg(coalesce(is_now, was) ->> name, '/' ORDER BY position)
                 FROM unnest(string_to_array(TG_ARGV[1], ',')) WITH ORDINALITY AS listed (name, position)),
                CASE WHEN was IS NOT NULL THEN fields[1] END::json,
                CASE WHEN is_now IS NOT NULL THEN fields[2] END::json);
            RETURN NULL;
        END $$
        """
    )
    hand_over("append_audit_entry(uuid, jsonb, text, text, text, json, json)", AUDIT)
    # The owner puts tables under audit, in this migration and in later ones.
    hand_over("audit_change()", AUDIT, "SESSION_USER")


def _audit_tenants() -> None:
    audit_table(
        "tenant",
        subject=("id",),
        tenant_column="id",
        shown=("parent_id", "reference", "name", "state", "currency", "allowed_regions", "requests_per_minute"),
    )
    audit_table("project", subject=("id",), tenant_column="tenant_id", shown=("name", "allowed_regions"))
    audit_table(
        "api_key",
        subject=("id",),
        tenant_column="tenant_id",
        shown=(
            *("project_id", "kind", "name", "prefix", "pepper_version", "regions", "models"),
            *("requests_per_minute", "revoked_at", "purpose"),
        ),
        withheld=("digest",),
    )
    audit_table(
        "member", subject=("id",), tenant_column="tenant_id", shown=("email", "role"), withheld=("password_hash",)
    )
    audit_table("operator_user", subject=("id",), shown=("email", "role"), withheld=("password_hash",))


def _audit_catalogue() -> None:
    audit_table("instance", subject=("singleton",), shown=("epoch",))
    audit_table("region", subject=("name",), shown=("jurisdiction", "gateway_url", "position"))
    # Its key is the digest, so the region names it.
    audit_table("region_credential", subject=("region",), shown=("region",), withheld=("digest",))
    audit_table("publisher", subject=("id",), shown=("name", "title"))
    audit_table(
        "listing",
        subject=("id",),
        shown=(
            *("name", "publisher_id", "task", "currency", "context_tokens", "template_tokens"),
            *("default_output_tokens", "max_output_tokens"),
        ),
    )
    audit_table("listing_region", subject=("listing_id", "region"), shown=("listing_id", "region"))
    audit_table(
        "deployment",
        subject=("region", "name"),
        shown=("engine", "replicas", "max_ongoing_requests", "options"),
    )


def _audit_money() -> None:
    audit_table(
        "price_version",
        subject=("id",),
        shown=(
            *("listing_id", "region", "currency", "starts_at", "input_nano_per_token"),
            *("cached_input_nano_per_token", "output_nano_per_token", "request_nano"),
        ),
    )
    # What usage takes from a budget is the ledger's to tell, and too much to tell twice.
    audit_table(
        "budget",
        subject=("tenant_id",),
        tenant_column="tenant_id",
        shown=("currency", "funds_nano", "credit_limit_nano"),
    )
    audit_table(
        "ledger_transaction",
        subject=("id",),
        tenant_column="tenant_id",
        shown=("kind", "currency"),
        only_inserts_when="NEW.kind <> 'usage'",
    )

"""People: an account is who signs in, a member is an account's place in an organisation, an invitation asks for one.

Forward only. Expand first; contract in a later release, when nothing reads the old shape any more: then
`find_member_by_email` and `find_member_session` go, with which the release before this one still signs people in. It
cannot sign anybody up meanwhile: a password's hash in a second place would outlive a changed password, so the member's
column goes at once.
"""

from alembic import op

from chappe_store.audit_log.triggers import audit_table
from chappe_store.row_security import LOOKUP, hand_over, hand_to_lookup, protect_tenant_table
from chappe_store.session import Role

revision = "0009"
down_revision = "0015"
branch_labels = None
depends_on = None

# All but the digest, which only the look-up function reads.
_INVITATION_COLUMNS = "tenant_id, id, email, role, created_at, sent_at, expires_at"
# Any constant will do; with a tenant's id it makes those take turns who change its owners. `members/queries.py` has it.
_OWNERS_LOCK = 0x6F776E72


def upgrade() -> None:
    # A migration that cannot get its lock soon gives up, instead of making every query queue behind it.
    op.execute("SET LOCAL lock_timeout = '3s'")
    op.execute("SET LOCAL statement_timeout = '60s'")
    _create_accounts()
    _turn_members_into_memberships()
    _grant_membership()
    _keep_an_owner()
    _create_invitations()
    _create_lookups()


def _create_accounts() -> None:
    op.execute(
        """
        CREATE TABLE account (
            id uuid CONSTRAINT pk_account PRIMARY KEY,
            email text NOT NULL CONSTRAINT uq_account_email UNIQUE
                CONSTRAINT ck_account_email CHECK (email = lower(email) AND length(email) <= 254),
            password_hash text NOT NULL CONSTRAINT ck_account_password_hash CHECK (password_hash LIKE '$argon2id$%'),
            created_at timestamptz NOT NULL DEFAULT now(),
            CONSTRAINT uq_account_id_email UNIQUE (id, email)
        )
        """
    )
    # Row-level security binds the owner too: until it is on for the new table, and while it is lifted for the old one,
    # everybody who could sign in gets their account. Nobody else gets to see that in between.
    op.execute("ALTER TABLE member NO FORCE ROW LEVEL SECURITY")
    op.execute(
        "INSERT INTO account (id, email, password_hash, created_at) "
        "SELECT id, email, password_hash, created_at FROM member"
    )
    # It belongs to no tenant. The role of tenants gets neither privilege nor policy: what a tenant may know of an
    # account is the copy of its address in the member.
    protect_tenant_table("account", {Role.OPERATOR: "SELECT, INSERT, UPDATE (email, password_hash)", LOOKUP: "SELECT"})
    audit_table("account", subject=("id",), shown=("email",), withheld=("password_hash",))


def _turn_members_into_memberships() -> None:
    op.execute("ALTER TABLE member ADD COLUMN account_id uuid")
    op.execute("UPDATE member SET account_id = id")
    op.execute("ALTER TABLE member FORCE ROW LEVEL SECURITY")
    op.execute("ALTER TABLE member ALTER COLUMN account_id SET NOT NULL")
    op.execute("ALTER TABLE member ADD COLUMN last_signed_in_at timestamptz")
    op.execute("ALTER TABLE member DROP CONSTRAINT uq_member_email")
    op.execute("ALTER TABLE member ADD CONSTRAINT uq_member_tenant_id_account_id UNIQUE (tenant_id, account_id)")
    # The database keeps the copy equal: an address that is changed is changed in every organisation, and each one's
    # audit log says so.
    op.execute(
        "ALTER TABLE member ADD CONSTRAINT fk_member_account_id_email_account FOREIGN KEY (account_id, email) "
        "REFERENCES account (id, email) ON UPDATE CASCADE"
    )
    op.execute("CREATE INDEX ix_member_account_id_email ON member (account_id, email)")
    op.execute(
        "ALTER TABLE member ADD CONSTRAINT ck_member_role "
        "CHECK (role IN ('owner', 'admin', 'developer', 'billing', 'viewer'))"
    )
    op.execute("DROP TRIGGER member_audit ON member")
    audit_table("member", subject=("id",), tenant_column="tenant_id", shown=("account_id", "email", "role"))
    # With the function that reads it, which comes back below without it.
    op.execute("DROP FUNCTION find_member_by_email(text)")
    op.execute("ALTER TABLE member DROP COLUMN password_hash")


def _grant_membership() -> None:
    # A member never moves to another tenant or account.
    op.execute(f"REVOKE UPDATE ON member FROM {Role.OPERATOR}")
    for role in (Role.APP, Role.OPERATOR):
        op.execute(f"GRANT UPDATE (role, last_signed_in_at), DELETE ON member TO {role}")
    for reader in (Role.APP.value, LOOKUP):
        op.execute(f"GRANT SELECT (account_id, last_signed_in_at) ON member TO {reader}")


def _keep_an_owner() -> None:
    # Whoever takes an owner away waits for the others who do, and then sees what they left.
    op.execute(
        f"""
        CREATE FUNCTION keep_an_owner() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
        SET search_path = pg_catalog, pg_temp AS $$
        BEGIN
            PERFORM pg_advisory_xact_lock({_OWNERS_LOCK}, hashtext(OLD.tenant_id::text));
            IF NOT EXISTS (SELECT FROM public.member m WHERE m.tenant_id = OLD.tenant_id AND m.role = 'owner') THEN
                RAISE EXCEPTION 'an organisation keeps at least one owner'
                    USING ERRCODE = 'check_violation', CONSTRAINT = 'member_keep_an_owner';
            END IF;
            RETURN NULL;
        END $$
        """
    )
    hand_over("keep_an_owner()", LOOKUP, "SESSION_USER")
    op.execute(
        "CREATE TRIGGER member_keep_an_owner AFTER DELETE OR UPDATE OF role ON member "
        "FOR EACH ROW WHEN (OLD.role = 'owner') EXECUTE FUNCTION keep_an_owner()"
    )


def _create_invitations() -> None:
    op.execute(
        """
        CREATE TABLE invitation (
            tenant_id uuid NOT NULL CONSTRAINT fk_invitation_tenant_id_tenant REFERENCES tenant,
            id uuid NOT NULL,
            email text NOT NULL CONSTRAINT ck_invitation_email CHECK (email = lower(email) AND length(email) <= 254),
            role text NOT NULL
                CONSTRAINT ck_invitation_role CHECK (role IN ('owner', 'admin', 'developer', 'billing', 'viewer')),
            digest bytea NOT NULL CONSTRAINT uq_invitation_digest UNIQUE
                CONSTRAINT ck_invitation_digest CHECK (length(digest) = 32),
            created_at timestamptz NOT NULL DEFAULT now(),
            sent_at timestamptz NOT NULL DEFAULT now(),
            expires_at timestamptz NOT NULL CONSTRAINT ck_invitation_expires_at CHECK (expires_at > sent_at),
            CONSTRAINT pk_invitation PRIMARY KEY (tenant_id, id),
            CONSTRAINT uq_invitation_tenant_id_email UNIQUE (tenant_id, email)
        )
        """
    )
    changing = f"SELECT ({_INVITATION_COLUMNS}), INSERT, UPDATE (digest, sent_at, expires_at), DELETE"
    protect_tenant_table("invitation", {Role.APP: changing, Role.OPERATOR: changing, LOOKUP: "SELECT"})
    audit_table(
        "invitation",
        subject=("id",),
        tenant_column="tenant_id",
        shown=("email", "role", "sent_at", "expires_at"),
        withheld=("digest",),
    )


def _create_lookups() -> None:
    op.execute(
        """
        CREATE FUNCTION find_member_by_email(address text)
        RETURNS TABLE (tenant_id uuid, member_id uuid, password_hash text, tenant_state text)
        LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
        AS $$
            SELECT m.tenant_id, m.id, a.password_hash, t.state
            FROM public.account a
            JOIN public.member m ON m.account_id = a.id
            JOIN public.tenant t ON t.id = m.tenant_id
            WHERE a.email = address
        $$
        """
    )
    # One row for each organisation, the one that was signed in to last first; for an account in none, one row that
    # says so. The tenant's state is part of the answer and not a condition: what it means is for the caller to say.
    op.execute(
        """
        CREATE FUNCTION find_account(address text)
        RETURNS TABLE (
            account_id uuid, password_hash text, tenant_id uuid, member_id uuid, tenant_name text, tenant_state text
        )
        LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
        AS $$
            SELECT a.id, a.password_hash, m.tenant_id, m.id, t.name, t.state
            FROM public.account a
            LEFT JOIN (public.member m JOIN public.tenant t ON t.id = m.tenant_id) ON m.account_id = a.id
            WHERE a.email = address
            ORDER BY m.last_signed_in_at DESC NULLS LAST, m.id
            LIMIT 100
        $$
        """
    )
    # With the organisations between which the session's account can switch: whoever holds the secret may know them.
    op.execute(
        """
        CREATE FUNCTION find_portal_session(asked bytea, idle interval, rest interval)
        RETURNS TABLE (
            tenant_id uuid, session_id uuid, member_id uuid, account_id uuid, email text, role text,
            tenant_name text, tenant_state text, currency text,
            organisation_ids uuid[], organisation_names text[], rested boolean
        )
        LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
        AS $$
            SELECT s.tenant_id, s.id, s.member_id, m.account_id, m.email, m.role,
                   t.name, t.state, t.currency, o.ids, o.names, s.seen_at < now() - rest
            FROM public.member_session s
            JOIN public.member m ON m.tenant_id = s.tenant_id AND m.id = s.member_id
            JOIN public.tenant t ON t.id = s.tenant_id
            CROSS JOIN LATERAL (
                SELECT array_agg(l.id ORDER BY lower(l.name), l.id) AS ids,
                       array_agg(l.name ORDER BY lower(l.name), l.id) AS names
                FROM (
                    SELECT c.id, c.name FROM public.member n JOIN public.tenant c ON c.id = n.tenant_id
                    WHERE n.account_id = m.account_id ORDER BY lower(c.name), c.id LIMIT 100
                ) l
            ) o
            WHERE s.digest = asked AND s.expires_at > now() AND s.seen_at > now() - idle
        $$
        """
    )
    # Whoever holds the link may know whether its address has an account: the link was sent there.
    op.execute(
        """
        CREATE FUNCTION find_invitation(asked bytea)
        RETURNS TABLE (
            tenant_id uuid, invitation_id uuid, email text, role text, sent_at timestamptz, tenant_name text,
            tenant_state text, account_id uuid, password_hash text
        )
        LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
        AS $$
            SELECT i.tenant_id, i.id, i.email, i.role, i.sent_at, t.name, t.state, a.id, a.password_hash
            FROM public.invitation i
            JOIN public.tenant t ON t.id = i.tenant_id
            LEFT JOIN public.account a ON a.email = i.email
            WHERE i.digest = asked AND i.expires_at > now()
        $$
        """
    )
    hand_to_lookup("find_member_by_email(text)", Role.APP)
    hand_to_lookup("find_account(text)", Role.APP)
    hand_to_lookup("find_portal_session(bytea, interval, interval)", Role.APP)
    hand_to_lookup("find_invitation(bytea)", Role.APP)

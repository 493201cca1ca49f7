"""Nothing that the application may change escapes: every table and every column is watched, or listed with a reason."""

from sqlalchemy import text

from chappe_store.session import Database

# Tables that the application changes without an entry, and why.
NOT_AUDITED = {
    "audit_checkpoint": "the log's own",
    "outbox": "messages about changes that are audited themselves, or posted",
    "keys_revision": "a counter that follows audited changes",
    "idempotency_record": "a call's own memory of itself for a day; what the call changed is audited",
    "operator_idempotency_record": "the same",
    "ledger_account": "opened by the postings that need it",
    "publisher_share": "append-only, and verified against the usage that was shared",
    "ledger_entry": "the ledger is append-only, balanced, and verified by a command of its own",
    "budget_grant": "leased a hundred times a minute; verified against usage and ledger",
    "usage_event": "append-only and verified, request by request",
    "usage_hour": "sums of the usage events",
    "usage_minute": "sums of the usage events",
    "usage_kept": "says what the retention left, which is settings' business",
    "usage_sealed_month": "sums of usage events, append-only and verified",
    "usage_sealed_hour": "sums of usage events, append-only and verified",
    "usage_sealed_posting": "sums of usage events, append-only and verified",
    "usage_sealed_price_day": "sums of usage events, append-only and verified",
    "usage_sealed_grant": "sums of usage events, append-only and verified",
    "usage_day": "sums of the usage hours",
    "usage_month": "sums of the usage hours",
    "usage_spending": "sums of the usage hours",
    "usage_price_day": "sums of the usage events",
    "price_correction": "each names its ledger transaction, which is audited",
    "month_cut_off": "append-only, made by the clock from audited terms",
    "cut_off_entry": "the same; each names its ledger transaction",
    "budget_alert": "follows from spending and audited quotas, once a month and threshold",
    "alert": "follows from usage, balances and audited settings, once for each crossing",
    "payment_failure": "what a payment service told; the payment itself is the ledger's",
    "webhook_event": "follows from what it tells of",
    "webhook_delivery": "the same, on its way to an audited endpoint",
    "webhook_attempt": "the same",
    "dunning_step": "append-only, made by the clock from audited policies; a suspension is audited with its tenant",
    "dunning_suspension": "the same",
    "member_session": "who is signed in, not what they changed; it ends by itself, and its row goes with it",
    "operator_session": "the same",
    "mail_link": "asked for by nobody yet; what is done with it is audited, and its row goes with it",
    "browser_token": "minutes of a session's; the key that it stands for is audited",
    "invoice_counter": "follows the numbers of invoices, which are audited",
    "invoice_run_tenant": "what a run found; the invoices that it issued are audited",
    "invoice_cut": "append-only and verified; the invoices that are made of it are audited",
    "invoice_transaction": "the same",
    "invoice_part": "the same",
    "invoice_funding": "append-only and verified; each names a ledger transaction, which is audited",
    "invoice_settlement": "the same",
    "invoice_open": "follows from invoices and what settled them, and verified",
    "rated_usage_waiting": "a queue of what is posted",
    "rated_usage_batch": "append-only, chained, verified against the ledger",
    "rated_usage_entry": "append-only, verified against the ledger",
    "usage_quarantine": "append-only, with region and gateway in each row",
    "gateway_heartbeat": "once a second",
    "payment_call": "what follows from an audited payment, method or refund, with a log of its own",
    "payment_call_attempt": "append-only: that log",
    "payment_cash": "append-only: what moved at the payment service; what follows from it is the ledger's",
    "payment_event": "append-only: what the payment service told; its effects are audited",
    "payment_event_look": "how far that was looked through",
    "vat_check": "a queue of questions; the answers are audited",
    "invoice_document": "made of an audited invoice alone, never changed, verified by a command of its own",
    "legal_entity_payments": "follows its legal entity, which is audited, in the same statement",
    "invoice_letter": "append-only, made by the clock of an audited document and an audited profile",
    "document_refusal": "what the rules say of an audited invoice; who has it tried again decides nothing",
    "deployment_state": "what a region reports of itself, not what somebody decided",
}
# Columns of audited tables that no trigger watches.
NOT_WATCHED = {
    "created_at": "the entry's own time says it",
    "changed_at": "the same",
    "payment.looked_at": "when the payment service was asked last",
    "auto_top_up.failures": "follows from payments, which are audited",
    "auto_top_up.next_at": "the same",
    "vat_answer.checked_at": "the same",
    "api_key.last_used_at": "changes with use",
    "tenant.state_changed_at": "the database writes it with the state, at the entry's own time",
    "api_key.last_used_region": "the same",
    "api_key.last_used_network": "the same",
    "operator_token.last_used_at": "the same",
    "member.last_signed_in_at": "the same",
    "member.language": "the same",
    "webhook_endpoint.failing_since": "follows from its deliveries",
    "webhook_endpoint.old_secret_until": "follows from the rotation, which is audited",
    "instance.server": "changes with the epoch",
    "instance.listens_until": "the same",
    "instance.lends_from": "follows from the epoch and what gateways tell; who ends it sooner is in the command's log",
    "price_draft.simulated_lines": "follows from lines that are audited",
    "budget.posted_nano": "the ledger's to tell",
    "budget.pending_nano": "the grants' to tell",
}

_CHANGEABLE = """
    SELECT DISTINCT c.relname::text FROM pg_class c, unnest(ARRAY['chappe_app', 'chappe_ingest', 'chappe_operator']) r,
        unnest(ARRAY['INSERT', 'UPDATE']) p
    WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relnamespace = 'public'::regnamespace
      AND (has_any_column_privilege(r, c.oid, p) OR has_table_privilege(r, c.oid, 'DELETE'))
"""
_AUDIT_TRIGGERS = """
    SELECT tgrelid::regclass::text, string_to_array(encode(tgargs, 'escape'), '\\000') FROM pg_trigger
    WHERE tgfoid = 'audit_change'::regproc AND tgenabled = 'O' AND tgdeferrable AND tginitdeferred
"""


async def test_every_table_that_can_change_is_audited_or_listed(database: Database) -> None:
    async with database.operator() as session:
        changeable = set((await session.execute(text(_CHANGEABLE))).scalars())
        audited = {row[0] for row in await session.execute(text(_AUDIT_TRIGGERS))}
    assert changeable - audited == set(NOT_AUDITED)


async def test_every_column_of_an_audited_table_is_watched_or_listed(database: Database) -> None:
    unwatched: set[str] = set()
    unused = set(NOT_WATCHED)
    async with database.operator() as session:
        for table, arguments in (await session.execute(text(_AUDIT_TRIGGERS))).all():
            columns = await session.execute(
                text(
                    "SELECT attname::text FROM pg_attribute "
                    "WHERE attrelid = cast(:table AS text)::regclass AND attnum > 0 AND NOT attisdropped"
                ),
                {"table": table},
            )
            watched = {column for argument in arguments for column in argument.split(",")}
            for column in set(columns.scalars()) - watched:
                reason = next((name for name in (column, f"{table}.{column}") if name in NOT_WATCHED), None)
                unused.discard(reason or "")
                unwatched |= set() if reason else {f"{table}.{column}"}
    assert (unwatched, unused) == (set(), set())


async def test_secret_columns_are_withheld(database: Database) -> None:
    """By their names and types: bytes and hashes are never written into the log."""
    async with database.operator() as session:
        for table, arguments in (await session.execute(text(_AUDIT_TRIGGERS))).all():
            shown = arguments[1].split(",") + arguments[2].split(",")
            statement = """
                SELECT attname::text FROM pg_attribute
                WHERE attrelid = cast(:table AS text)::regclass AND attname = ANY (:shown)
                  AND (atttypid = 'bytea'::regtype OR attname ~ '(hash|digest|secret|password|token|pepper$)')
                  AND attname !~ '(_tokens|_per_token|tokens_per_minute)$'
            """
            assert list((await session.execute(text(statement), {"table": table, "shown": shown})).scalars()) == []


async def test_no_deferred_trigger_takes_a_lock_after_the_chains(database: Database) -> None:
    """Deferred triggers run at the commit in the order of their events. One that waited for a row while holding the
    chain's lock could deadlock with another commit; the ledger's only reads."""
    async with database.operator() as session:
        statement = "SELECT DISTINCT tgfoid::regproc::text FROM pg_trigger WHERE tgdeferrable AND NOT tgisinternal"
        functions = set((await session.execute(text(statement))).scalars())
    assert functions == {"audit_change", "check_ledger_balanced"}


async def test_only_the_triggers_can_write_an_entry(database: Database) -> None:
    async with database.operator() as session:
        for role in ("chappe_app", "chappe_ingest", "chappe_operator", "chappe_lookup"):
            for privilege in ("INSERT", "UPDATE", "DELETE", "TRUNCATE"):
                held = await session.scalar(
                    text("SELECT has_table_privilege(:role, 'audit_entry', :privilege)"),
                    {"role": role, "privilege": privilege},
                )
                assert held is False, (role, privilege)
            for function in ("append_audit_entry", "audit_change"):
                held = await session.scalar(
                    text("SELECT has_function_privilege(:role, cast(:name AS text)::regproc, 'EXECUTE')"),
                    {"role": role, "name": function},
                )
                assert held is False, (role, function)

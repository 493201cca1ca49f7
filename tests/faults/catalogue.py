"""Bugs that other systems like this one really had, and what is known to go wrong with tenants in PostgreSQL: each with
the tests that show that it is not so here. `file::test`, below `tests/`."""

from collections.abc import Mapping

_DOORS = "faults/test_gateway_doors.py"
_PATH = "faults/test_authorization_path.py"
_ROWS = "faults/test_row_security.py"
_SOURCE = "faults/test_source.py"
_PROXIES = "faults/test_proxies.py"
_MATRIX = "access/test_matrix.py"

PEERS_BUGS: Mapping[str, tuple[str, ...]] = {
    "SQL injection before authentication, in the key check (LiteLLM CVE-2026-42208)": (
        "faults/test_injection.py::test_sql_in_a_secret_opens_nothing",
        "faults/test_injection.py::test_sql_in_a_digest_finds_no_key",
        "faults/test_injection.py::test_sql_in_what_a_caller_looks_for_is_text",
    ),
    "cache keyed by a token's prefix (LiteLLM CVE-2026-35030)": (
        f"{_DOORS}::test_a_key_that_begins_like_a_known_one_is_another_key",
        "kernel/test_api_keys.py::test_keys_that_share_a_prefix_have_unrelated_digests",
    ),
    "Host header changes the authorization path (LiteLLM CVE-2026-49468, Starlette CVE-2026-48710)": (
        f"{_PATH}::test_no_header_but_the_credential_changes_who_somebody_is",
        f"{_PATH}::test_no_spelling_of_a_path_goes_around_its_guard",
        "sign_in/test_own_pages.py::test_a_page_under_another_name_is_at_the_settings_address",
    ),
    "configuration or role set by mass assignment (LiteLLM CVE-2026-35029, CVE-2026-47102)": (
        "faults/test_mass_assignment.py::test_a_field_that_nobody_may_set_is_refused_and_changes_nothing",
        "sign_in/test_sign_up.py::test_fields_that_nobody_asked_for_have_no_effect",
    ),
    "command run from a request's body (LiteLLM CVE-2026-42271)": (
        f"{_SOURCE}::test_nothing_that_takes_requests_can_start_a_program",
        f"{_SOURCE}::test_nothing_unpacks_objects_that_could_run",
    ),
    "debug sign-on without authentication (LiteLLM CVE-2026-12795)": (
        f"{_SOURCE}::test_no_setting_turns_authentication_off",
        f"{_MATRIX}::test_every_route_has_an_expectation_and_every_expectation_a_route",
    ),
    "client chooses the upstream (LiteLLM issue 37053)": (
        f"{_DOORS}::test_a_client_cannot_choose_the_upstream",
        "gateway/test_answers_shape.py::test_no_header_of_the_client_goes_upstream",
    ),
    "abort to avoid the bill (llmgateway GHSA-724j)": (
        "gateway/test_endings.py::test_a_client_that_leaves_aborts_the_engine_and_pays_its_count",
        "gateway/test_endings.py::test_leaving_a_whole_answer_pays_the_engines_record",
    ),
    "forged Stripe event; payment method crossed with another order (new-api CVE-2026-41432)": (
        "payments/test_webhooks.py::test_a_forged_or_stale_webhook_credits_nothing",
        "payments/test_webhooks.py::test_without_a_secret_every_webhook_is_refused",
        "payments/test_webhooks.py::test_what_an_event_claims_is_never_believed",
        "payments/test_top_ups.py::test_a_payment_method_crossed_with_another_order_credits_neither",
    ),
    "another tenant's object by id (new-api CVE-2026-30886, Open WebUI CVE-2026-45349, CVE-2026-45671)": (
        f"{_MATRIX}::test_a_route_answers_everybody_as_expected",
        f"{_MATRIX}::test_what_is_another_tenants_looks_like_what_is_not_there",
    ),
    "wildcard that stalls a search (new-api CVE-2026-25591)": (
        "console/test_tenants.py::test_a_search_that_would_stall_a_pattern_does_not",
    ),
    "webhook or redirect to internal addresses (new-api issue 4746, Open WebUI CVE-2026-45400, CVE-2026-45401)": (
        f"{_SOURCE}::test_the_control_plane_calls_nobody_but_where_it_is_guarded",
        "webhooks/test_addresses.py::test_an_internal_address_is_refused",
        "webhooks/test_sending.py::test_a_name_that_answers_otherwise_a_moment_later_is_asked_once",
        "webhooks/test_sending.py::test_no_redirect_is_followed",
        "sign_in/test_own_pages.py::test_no_path_turns_the_redirect_to_another_host",
        "sign_in/test_sign_in.py::test_after_signing_in_nobody_ends_up_elsewhere",
    ),
    "limits skipped through another auth header (Open WebUI CVE-2026-45339)": (
        f"{_DOORS}::test_another_header_is_no_way_around_a_limit",
        f"{_DOORS}::test_a_key_is_limited_in_whatever_header_it_comes",
        "gateway/test_keys.py::test_two_authorization_headers_are_none",
        "control/test_public_access.py::test_two_authorization_headers_open_nothing",
    ),
    "job API open, rebinding (Ray CVE-2023-48022, CVE-2025-62593, CVE-2026-27482)": (
        "serving/test_cluster.py::test_there_is_no_job_api",
        "serving/test_cluster.py::test_the_dashboard_wants_the_token",
        "serving/test_cluster.py::test_every_port_is_in_range_and_only_on_loopback",
    ),
    "timing of key comparison (vLLM CVE-2025-59425)": (
        f"{_SOURCE}::test_no_secret_is_compared_with_equals",
        "faults/test_timing.py::test_where_a_key_is_wrong_takes_no_longer_to_see",
        "faults/test_timing.py::test_a_session_is_looked_up_by_a_digest_and_never_by_its_secret",
        "sign_in/test_sign_in.py::test_unknown_address_takes_as_long_as_a_wrong_password",
    ),
    "X-Forwarded-For and X-Forwarded-Host believed (Litestar CVE-2025-59152, CVE-2026-48061)": (
        f"{_PROXIES}::test_the_framework_is_one_with_the_fixes",
        f"{_PROXIES}::test_the_audit_log_has_the_sockets_address_and_no_claimed_one",
        f"{_PROXIES}::test_no_page_repeats_a_claimed_host",
        "sign_in/test_attempts.py::test_a_header_that_claims_another_address_changes_nothing",
    ),
    "script in the CSRF cookie (Litestar CVE-2026-48060)": (
        f"{_PROXIES}::test_the_framework_is_one_with_the_fixes",
        f"{_PROXIES}::test_a_script_in_the_tokens_cookie_is_on_no_page",
    ),
}

ROW_SECURITY: Mapping[str, tuple[str, ...]] = {
    "the owner goes around row-level security unless it is forced": (
        "store/test_row_security.py::test_every_table_with_a_tenant_forces_row_level_security",
    ),
    "superusers always go around it": (
        "store/test_row_security.py::test_no_role_goes_around_row_level_security",
        f"{_ROWS}::test_the_suite_runs_as_the_applications_role",
    ),
    "pools reuse connections: a setting outlives its transaction": (
        f"{_ROWS}::test_a_poisoned_connection_shows_no_other_rows",
        "billing/test_isolation.py::test_a_setting_that_leaked_into_a_pooled_connection_shows_nothing",
        "store/test_session.py::test_nothing_stays_set_on_the_connection",
    ),
    "no tenant is set": (
        f"{_ROWS}::test_a_role_without_a_tenant_setting_sees_no_rows",
        f"{_ROWS}::test_without_a_tenant_there_are_no_rows",
    ),
    "a table of the session's own in front of the real one": (
        f"{_ROWS}::test_the_login_can_put_no_table_in_front_of_ours",
    ),
    "another tenant's rows, in any table": (
        f"{_ROWS}::test_every_table_shows_a_tenant_its_own_rows_alone",
        "tenants/test_isolation.py::test_tenant_cannot_write_for_another",
    ),
    "unique and foreign keys reveal what exists": (
        f"{_ROWS}::test_no_foreign_key_tells_a_tenant_what_another_has",
        "store/test_linters.py::test_row_security_has_only_the_exemptions_that_are_listed",
    ),
    "a policy that reads its setting for each row": (
        f"{_ROWS}::test_every_policy_of_tenants_reads_its_setting_once_per_query",
    ),
    "linters over migrations and policies": (
        "store/test_linters.py::test_row_security_has_only_the_exemptions_that_are_listed",
        "store/test_linters.py::test_migration_is_safe_on_a_busy_database",
    ),
}

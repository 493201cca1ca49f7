"""The control plane's application."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog
from litestar import Litestar, get
from litestar.datastructures import State
from litestar.di import Provide
from litestar.middleware import DefineMiddleware
from litestar.types import Message, Scope
from msgspec import Struct
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from chappe_billing.grants.terms import GrantTerms
from chappe_billing.usage.queries import ensure_partitions
from chappe_control.console.router import make_router as make_console_router
from chappe_control.exports import Turns
from chappe_control.internal.routes import make_router as make_internal_router
from chappe_control.key_feed import KeyFeed
from chappe_control.letters import WRITERS
from chappe_control.mail.orders import Seal
from chappe_control.mail.service import open_mail
from chappe_control.openapi.config import make_config as make_openapi_config
from chappe_control.operator_api.router import make_router as make_operator_router
from chappe_control.origins import request_id_header
from chappe_control.pages.assets import load_assets
from chappe_control.pages.canonical import CanonicalHost
from chappe_control.pages.csp_reports import CspReports
from chappe_control.pages.csrf import OwnPagesOnly, make_csrf_config
from chappe_control.pages.errors import with_pages
from chappe_control.pages.guards import SignInRequired, handle_sign_in_required
from chappe_control.pages.render import make_pages
from chappe_control.pages.router import make_router as make_pages_router
from chappe_control.payments.office import open_payments
from chappe_control.payments.webhook import make_router as make_webhook_router
from chappe_control.permissions import check_routes
from chappe_control.portal.router import make_router as make_portal_router
from chappe_control.problems import EXCEPTION_HANDLERS
from chappe_control.proxies import TrustedProxies
from chappe_control.public.router import make_open_router
from chappe_control.public.router import make_router as make_public_router
from chappe_control.restores import RESTORES_EVERY_S, notice_restore
from chappe_control.settings import ControlSettings
from chappe_control.shortages import Shortages
from chappe_control.sign_in.router import make_router as make_sign_in_router
from chappe_control.snapshot import SnapshotCache
from chappe_control.state import Given, Services
from chappe_control.throttle import Throttle
from chappe_control.tmf.routes import make_router as make_tmf_router
from chappe_control.webhooks.sealing import SecretSeal
from chappe_control.working import Work, working
from chappe_control.works import Workshop, answering_at_once, doing_everything
from chappe_kernel.clock import Clock, SystemClock
from chappe_kernel.errors import Unavailable
from chappe_kernel.networks import parse_networks
from chappe_store.audit_log.signing import parse_signing_keys
from chappe_store.queries import read_epoch
from chappe_store.session import Database
from chappe_tenants.passwords import PasswordWork
from chappe_tenants.peppers import parse_peppers

_log = structlog.get_logger()
MAX_BODY_BYTES = 64 * 1024

_SECURITY_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
)
_MONTHS_AHEAD = 24


class Health(Struct, frozen=True):
    status: str


@get("/healthz", include_in_schema=False)
async def healthz(services: Given) -> Health:
    """200 if the database answers, else 503."""
    async with services.database.ingest() as session:
        await read_epoch(session)
    return Health(status="ok")


def make_services(settings: ControlSettings, database: Database, redis: Redis, clock: Clock) -> Services:
    """Raises `Invalid` for settings that cannot work."""
    peppers = parse_peppers(settings.key_peppers)
    return Services(
        settings=settings,
        database=database,
        throttle=Throttle(redis, clock),
        passwords=PasswordWork(),
        mail=open_mail(settings, database, Seal(peppers), WRITERS, clock),
        payments=open_payments(settings, database, clock),
        peppers=peppers,
        snapshots=SnapshotCache(
            database, peppers, settings.snapshot_max_age_s, clock, portal_origin=settings.portal_url
        ),
        key_feed=KeyFeed(database, clock),
        shortages=Shortages(clock),
        terms=GrantTerms(
            admit_s=settings.grant_admit_s,
            settle_s=settings.grant_settle_s,
            release_s=settings.grant_release_s,
            postpaid_admit_s=settings.grant_postpaid_admit_s,
        ),
        exports=Turns(),
        webhook_seal=SecretSeal(peppers),
        clock=clock,
    )


def create_app(settings: ControlSettings, clock: Clock | None = None) -> Litestar:
    """The application. It opens connections when they are needed and closes them when it ends."""
    database = Database(settings.database_url)
    # One more try for a connection that has gone stale. Whoever asks bounds the whole.
    redis = Redis.from_url(settings.redis_url, retry=Retry(NoBackoff(), 1))
    services = make_services(settings, database, redis, clock or SystemClock())
    pages = make_pages(load_assets(), services.clock)
    shop, doing_work = _open_shop(services), doing_everything if settings.works else answering_at_once

    @asynccontextmanager
    async def connections(_: Litestar) -> AsyncIterator[None]:
        try:
            if not services.mail.is_open:
                _log.warning("mail_off", reason="CHAPPE_SMTP_URL is not set: nobody can sign up or choose a password")
            await _prepare_months(database)
            await notice_restore(database)
            restores = Work("restores", lambda: notice_restore(database), RESTORES_EVERY_S)
            async with working([restores]), doing_work(shop):
                yield
        finally:
            await services.payments.close()
            services.passwords.close()
            await redis.aclose()
            await database.close()

    app = Litestar(
        route_handlers=[
            healthz,
            make_internal_router(),
            make_public_router(),
            make_open_router(),
            make_operator_router(),
            make_tmf_router(),
            make_webhook_router(),
            make_pages_router(),
            make_sign_in_router(),
            make_console_router(services.clock),
            make_portal_router(),
        ],
        dependencies={"services": Provide(lambda: services, sync_to_thread=False)},
        state=State({"services": services, "pages": pages, "csp_reports": CspReports()}),
        lifespan=[connections],
        exception_handlers=with_pages(EXCEPTION_HANDLERS | {SignInRequired: handle_sign_in_required}),
        middleware=[
            DefineMiddleware(TrustedProxies, proxies=parse_networks(settings.trusted_proxies)),
            CanonicalHost,
            OwnPagesOnly,
        ],
        csrf_config=make_csrf_config(services.peppers),
        before_send=[_add_security_headers],
        openapi_config=make_openapi_config(),
        request_max_body_size=MAX_BODY_BYTES,
        logging_config=None,
        debug=False,
    )
    check_routes(app)
    return app


def _open_shop(services: Services) -> Workshop:
    return Workshop(
        services.settings,
        services.database,
        services.mail,
        services.payments,
        services.webhook_seal,
        parse_signing_keys(services.settings.audit_keys) if services.settings.works else None,
        services.clock,
    )


async def _prepare_months(database: Database) -> None:
    try:
        async with database.operator() as session:
            await ensure_partitions(session, _MONTHS_AHEAD)
    except Unavailable:
        # No reason not to start: earlier starts made months ahead, and a default partition takes the rest.
        _log.warning("usage_partitions_not_prepared")


async def _add_security_headers(message: Message, scope: Scope) -> None:
    if message["type"] == "http.response.start":
        # Pages and assets bring their own; whatever says nothing gets what suits an API.
        present = {name.lower() for name, _ in message["headers"]}
        message["headers"] = [
            *message["headers"],
            *(header for header in _SECURITY_HEADERS if header[0] not in present),
            *request_id_header(scope),
        ]

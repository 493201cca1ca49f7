"""All that the control plane does without being asked, and how often.

Any number of processes may do any of it side by side: claims and locks are in the database. `chappe worker` does all of
it; `chappe control` does too, or, without `works`, only what somebody waits for who has just asked.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final

from chappe_billing.advances.service import document_all
from chappe_billing.alerts.service import check_alerts
from chappe_billing.cut_off.service import cut_off_all
from chappe_billing.documents.service import render_all
from chappe_billing.dunning.service import dun_all
from chappe_billing.invoice_runs.service import run_due
from chappe_billing.price_corrections.service import correct_all
from chappe_billing.tax.vies import Vies
from chappe_control.checkpoints import Signer
from chappe_control.invoice_mail.service import mail_documents
from chappe_control.mail.service import Mail
from chappe_control.notices.service import Office, tell_waiting
from chappe_control.payments.office import PaymentOffice
from chappe_control.rated_usage import Feeder
from chappe_control.retaining import retain_usage
from chappe_control.settings import WorkSettings
from chappe_control.vat_checks import check_vat_numbers
from chappe_control.webhooks.delivery import Courier
from chappe_control.webhooks.sealing import SecretSeal
from chappe_control.webhooks.sending import make_sender
from chappe_control.working import UNTIL_DONE, Work, working
from chappe_kernel.clock import Clock
from chappe_store.audit_log.signing import SigningKeys
from chappe_store.session import Database

_HOUR_S: Final = 3600.0
_ROUNDS_AT_ONCE: Final = 3
"""A customer, what waits for it, and what follows: then whoever waits has an answer; the rest is the worker's."""


@dataclass(frozen=True)
class Workshop:
    """What works have in common with the process that does them. Without `audit_keys` it signs nothing."""

    settings: WorkSettings
    database: Database
    mail: Mail
    payments: PaymentOffice
    webhook_seal: SecretSeal
    audit_keys: SigningKeys | None
    clock: Clock


@asynccontextmanager
async def doing_everything(shop: Workshop, *, grace_s: float = 0.0) -> AsyncIterator[None]:
    """While the block runs, and for `grace_s` more with what was begun."""
    settings = shop.settings
    sender = make_sender(to_loopback=settings.webhooks_to_loopback)
    courier = Courier(shop.database, shop.webhook_seal, sender, shop.clock, to_loopback=settings.webhooks_to_loopback)
    vies = Vies(settings.vies_url) if settings.vies_url else None
    works = [*_books(shop), *_usage(shop), *_told(shop, courier), *_evidence(shop, vies), *_payments(shop)]
    try:
        async with working(works, grace_s=grace_s):
            yield
    finally:
        courier.close()
        if vies is not None:
            await vies.close()


@asynccontextmanager
async def answering_at_once(shop: Workshop) -> AsyncIterator[None]:
    """Only what this process has just ordered because somebody waits: letters with links, pages to pay on. Newest
    first and a few at a time, so that a month's ten thousand letters hold up neither a sign-up nor the pages; they and
    what fails are the worker's."""
    works = []
    if shop.mail.is_open:
        send = partial(shop.mail.send_due, newest_first=True)
        works.append(Work("mail", send, 60, wait=shop.mail.until_ordered))
    if shop.payments.is_open:
        call = partial(shop.payments.carry_out_due, newest_first=True)
        works.append(Work("payment_calls", call, 60, rounds=_ROUNDS_AT_ONCE, wait=shop.payments.until_ordered))
    async with working(works):
        yield


def _books(shop: Workshop) -> list[Work]:
    """What is posted and made: what was charged too much under reverted prices, months' ends, invoices, documents."""
    database = shop.database
    return [
        # A wrong price is reverted within a minute, and that includes what it cost.
        Work("price_corrections", lambda: correct_all(database), 10),
        Work("cut_offs", lambda: cut_off_all(database), 60),
        Work("advances", lambda: document_all(database), 10),
        Work("invoices", lambda: run_due(database), 60),
        Work("invoice_documents", lambda: render_all(database), 15),
    ]


def _usage(shop: Workshop) -> list[Work]:
    settings = shop.settings
    feeder = Feeder(shop.database, settings.feed_folder, settings.feed_records)
    retain = partial(retain_usage, shop.database, settings.usage_months, settings.usage_minute_days)
    return [
        # After the wait, and not before: a process that is restarted again and again makes no small batches.
        Work("rated_usage", feeder.feed, settings.feed_every_s, first_after_s=settings.feed_every_s),
        Work("retention", retain, _HOUR_S, first_after_s=60),
    ]


def _told(shop: Workshop, courier: Courier) -> list[Work]:
    """What tenants hear of, and what is watched so that they do."""
    database, mail = shop.database, shop.mail
    office = Office(mail, shop.settings.portal_url)
    works = [
        Work("notices", lambda: tell_waiting(database, office), 2, rounds=UNTIL_DONE),
        Work("webhooks", courier.deliver_due, 2, rounds=UNTIL_DONE),
        Work("webhook_log", courier.drop_old, _HOUR_S),
        Work("invoice_letters", lambda: mail_documents(database, office), 15),
        Work("alerts", lambda: check_alerts(database), 60),
        Work("dunning", lambda: dun_all(database), 60),
    ]
    if mail.is_open:
        # What other processes ordered, and what is to be tried again, is found within this time.
        works.append(Work("mail", mail.send_due, 2, rounds=UNTIL_DONE, wait=mail.until_ordered))
    return works


def _evidence(shop: Workshop, vies: Vies | None) -> list[Work]:
    settings = shop.settings
    works = [Work("vat_numbers", lambda: check_vat_numbers(shop.database, vies, settings.vat_recheck_days), 5)]
    if shop.audit_keys is not None:
        signer = Signer(shop.database, shop.audit_keys)
        works.append(Work("audit_log", signer.sign, settings.audit_checkpoint_s))
    return works


def _payments(shop: Workshop) -> list[Work]:
    """Nothing without an account with the service."""
    office = shop.payments
    if not office.is_open:
        return []
    return [
        # One call may make room for the next: a customer for what waits for it.
        Work("payment_calls", office.carry_out_due, 2, rounds=UNTIL_DONE, wait=office.until_ordered),
        Work("payments_looked_after", office.look_after, 10, first_after_s=10),
        Work("payment_events", office.catch_up, 60, first_after_s=60),
        Work("auto_top_ups", office.top_up_all, 10, first_after_s=10),
        Work("collections", office.collect_all, 60, first_after_s=60),
        Work("collections_again", office.collect_again, 60, first_after_s=60),
        Work("withdrawals", office.withdraw_all, 10, first_after_s=10),
        Work("usage_reports", office.report_usage, 600, first_after_s=600),
    ]

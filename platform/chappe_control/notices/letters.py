"""The letters about money and webhooks, in the reader's language: amounts, days and percents as the portal shows them.

All that they say comes from the notice; of what somebody typed there is the organisation's name, and a webhook's URL.
"""

from collections.abc import Mapping
from datetime import date
from typing import Any, Final

import msgspec
from babel import Locale

from chappe_control.mail.letters import Action, Letter
from chappe_control.mail.orders import Order
from chappe_control.mail.service import Writer
from chappe_control.pages import formats
from chappe_control.pages.languages import N_, translate_into
from chappe_control.webhooks.kinds import EventKind
from chappe_kernel.money import parse_nano
from chappe_store.session import Database

NOTICE: Final = "notice"

_SUBJECTS: Final[Mapping[str, str]] = {
    EventKind.BUDGET_THRESHOLD: N_("“%(organisation)s” has used %(percent)s of a monthly budget"),
    EventKind.FORECAST: N_("“%(organisation)s” is going to spend more than planned"),
    EventKind.LOW_BALANCE: N_("The balance of “%(organisation)s” is low"),
    EventKind.PAYMENT_FAILED: N_("A payment of “%(organisation)s” failed"),
    EventKind.PAYMENT_SUCCEEDED: N_("A payment of “%(organisation)s” came in"),
    EventKind.INVOICE_REMINDER: N_("Invoice %(number)s is due on %(due)s"),
    EventKind.INVOICE_OVERDUE: N_("Invoice %(number)s is overdue"),
    EventKind.SUSPENDED: N_("“%(organisation)s” is suspended"),
    EventKind.RESTORED: N_("“%(organisation)s” is active again"),
    EventKind.WEBHOOK_DISABLED: N_("A webhook of “%(organisation)s” is disabled"),
}
_TEXTS: Final[Mapping[str, tuple[str, ...]]] = {
    EventKind.BUDGET_THRESHOLD: (N_("%(spent)s of %(budget)s are spent this month."),),
    EventKind.FORECAST: (
        N_("If the month goes on like the last days, %(expected)s will be spent by its end. Your limit is %(limit)s."),
        N_("So far it is %(spent)s."),
    ),
    EventKind.LOW_BALANCE: (N_("%(available)s are left, the credit limit included."),),
    EventKind.PAYMENT_FAILED: (
        N_("A payment of %(amount)s was not made. The payment service says: %(reason)s."),
        N_("Please see that your payment method is in order."),
    ),
    EventKind.PAYMENT_SUCCEEDED: (N_("A payment of %(amount)s came in. Thank you. You need not do anything."),),
    EventKind.INVOICE_REMINDER: (N_("%(open)s are open on invoice %(number)s. Please pay them by %(due)s."),),
    EventKind.INVOICE_OVERDUE: (
        N_("%(open)s are open on invoice %(number)s, which was due on %(due)s."),
        N_("Please pay now. If you have paid already, thank you: this letter and your payment have crossed."),
    ),
    EventKind.SUSPENDED: (
        N_("%(open)s are open on invoice %(number)s, which was due on %(due)s, and our letters were not answered."),
        N_("No model can be called until it is paid. Nothing is deleted, and all opens again when the money is here."),
    ),
    EventKind.RESTORED: (N_("What was overdue is paid. Thank you: everything is open again."),),
    EventKind.WEBHOOK_DISABLED: (
        N_("Nothing is sent to %(url)s any more."),
        N_("When it works again, enable it in the portal. What was not taken can be sent again from its log."),
    ),
}
_LAST_NOTICE: Final = N_("This is our last notice. On %(suspends)s your organisation will be suspended.")
_DAYS_LEFT: Final = N_("At the pace of the last days that is enough for %(days)s more days.")
_CREDITED: Final = N_("%(credited)s of it is more than was open of the invoice, and is credit of yours now.")
_STOPS: Final = N_("At 100 percent, requests within this budget are refused until the month ends.")
_PLACES: Final[Mapping[str, tuple[str, str]]] = {
    EventKind.BUDGET_THRESHOLD: ("/quotas", N_("See your quotas")),
    EventKind.WEBHOOK_DISABLED: ("/webhooks", N_("See your webhooks")),
}
_ELSEWHERE: Final = ("/alerts", N_("See your alerts"))
_WHY: Final = N_("You get this letter as an owner or a billing member, or because the organisation named your address.")


async def write_notice(_: Database, order: Order) -> Letter:
    """`values` has the notice's `kind`, the organisation's name, the portal's address, and `data` as JSON."""
    kind, language = order.values["kind"], order.language
    data = msgspec.json.decode(order.values["data"], type=dict[str, Any])
    shown = {**_shown(Locale.parse(language), data), "organisation": order.values["organisation"]}
    path, label = _PLACES.get(kind, _ELSEWHERE)
    return Letter(
        translate_into(language, _SUBJECTS[kind], **shown),
        tuple(translate_into(language, text, **shown) for text in _paragraphs(kind, data)),
        Action(translate_into(language, label), order.values["portal_url"] + path),
        (translate_into(language, _WHY),),
    )


WRITERS: Final[Mapping[str, Writer]] = {NOTICE: write_notice}


def _paragraphs(kind: str, data: Mapping[str, Any]) -> list[str]:
    texts = list(_TEXTS[kind])
    if kind == EventKind.LOW_BALANCE and data.get("days_left") is not None:
        texts.append(_DAYS_LEFT)
    if kind == EventKind.BUDGET_THRESHOLD and data.get("hard_stop"):
        texts.append(_STOPS)
    if data.get("credited"):
        texts.append(_CREDITED)
    if data.get("suspends_on"):
        texts.append(_LAST_NOTICE)
    return texts


def _shown(locale: Locale, data: Mapping[str, Any]) -> dict[str, str]:
    """Every value that a text may name, as people of this locale write it."""
    currency = str(data.get("currency") or "EUR")
    amounts = ("spent", "budget", "expected", "limit", "available", "amount", "open", "credited")
    shown = {name: formats.amount(locale, parse_nano(str(data[name])), currency) for name in amounts if data.get(name)}
    if "percent" in data:
        shown["percent"] = formats.percent(locale, data["percent"] / 100)
    if data.get("days_left") is not None:
        shown["days"] = formats.number(locale, int(data["days_left"]))
    for name, key in (("due", "due_on"), ("suspends", "suspends_on")):
        if data.get(key):
            shown[name] = formats.day_of_month(locale, date.fromisoformat(str(data[key])))
    return shown | {name: str(data.get(name, "")) for name in ("number", "reason", "url")}

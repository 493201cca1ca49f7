"""Stripe's test cards and test IBANs, and what each does. No others are taken, so nobody enters a real one."""

from dataclasses import dataclass
from typing import Final, Literal

from chappe_local.stripe_stand_in.errors import StripeError, declined

Authentication = Literal["never", "first", "always"]
REFUSED_SETTING: Final = "refuse_cards"
"""The switch that makes any card be declined."""
LATE_S: Final = 180
"""What Stripe calls "after three minutes"."""


@dataclass(frozen=True)
class Refusal:
    """Why the bank said no, in Stripe's words."""

    code: str
    decline_code: str | None
    message: str

    def error(self, **details: object) -> StripeError:
        return declined(self.code, self.decline_code, self.message, **details)


@dataclass(frozen=True)
class TestCard:
    """What happens when it is charged. `authentication`: `first` asks until it was set up once, `always` every time.
    `dispute` is the reason that its holder gives at once; `refund` is how a refund to it goes."""

    number: str
    brand: str = "visa"
    refusal: Refusal | None = None
    authentication: Authentication = "never"
    dispute: str | None = None
    refuses_when_saved: bool = True
    """Whether saving it fails as charging it does."""
    refund: Literal["at_once", "pending", "fails"] = "at_once"


@dataclass(frozen=True)
class TestAccount:
    """A SEPA account: how a debit of it ends, and after how long."""

    iban: str
    succeeds: bool = True
    after_s: int = 0
    dispute: str | None = None


def refusal(decline_code: str, message: str = "Your card was declined.") -> Refusal:
    """A decline with the bank's own code."""
    return Refusal("card_declined", decline_code, message)


_DECLINED: Final = refusal("generic_decline")
_INSUFFICIENT: Final = refusal("insufficient_funds", "Your card has insufficient funds.")
AUTHENTICATION_REQUIRED: Final = Refusal(
    "authentication_required",
    "authentication_required",
    "Your card was declined. This transaction requires authentication.",
)
INCORRECT_NUMBER: Final = Refusal("incorrect_number", None, "Your card number is incorrect.")
NOT_A_TEST_CARD: Final = refusal(
    "test_mode_live_card",
    "Your card was declined. Your request was in test mode, but used a non test card. For a list of valid test cards, "
    "visit: https://stripe.com/docs/testing.",
)
DEBIT_FAILED: Final = Refusal(
    "insufficient_funds", None, "The debit failed: the customer's account has insufficient funds to cover it."
)

_CARDS: Final = (
    TestCard("4242424242424242"),
    TestCard("4000056655665556"),
    TestCard("5555555555554444", brand="mastercard"),
    TestCard("378282246310005", brand="amex"),
    TestCard("4000002500000003"),  # French
    TestCard("4000002760000016"),  # German
    TestCard("4000000000000002", refusal=_DECLINED),
    TestCard("4000000000009995", refusal=_INSUFFICIENT),
    TestCard("4000000000009987", refusal=refusal("lost_card")),
    TestCard("4000000000009979", refusal=refusal("stolen_card")),
    TestCard("4000000000000069", refusal=Refusal("expired_card", "expired_card", "Your card has expired.")),
    TestCard(
        "4000000000000127", refusal=Refusal("incorrect_cvc", "incorrect_cvc", "Your card's security code is incorrect.")
    ),
    TestCard(
        "4000000000000119",
        refusal=Refusal(
            "processing_error",
            "processing_error",
            "An error occurred while processing your card. Try again in a little bit.",
        ),
    ),
    TestCard("4000000000000341", refusal=_DECLINED, refuses_when_saved=False),
    TestCard("4000002500003155", authentication="first"),
    TestCard("4000002760003184", authentication="always"),
    TestCard("4000008260003178", authentication="always", refusal=_INSUFFICIENT, refuses_when_saved=False),
    TestCard("4000000000000259", dispute="fraudulent"),
    TestCard("4000000000002685", dispute="product_not_received"),
    TestCard("4000000000007726", refund="pending"),
    TestCard("4000000000005126", refund="fails"),
)
_BY_NUMBER: Final = {card.number: card for card in _CARDS}

NAMED_CARDS: Final = {
    "pm_card_visa": "4242424242424242",
    "pm_card_mastercard": "5555555555554444",
    "pm_card_amex": "378282246310005",
    "pm_card_visa_chargeDeclined": "4000000000000002",
    "pm_card_chargeDeclined": "4000000000000002",
    "pm_card_visa_chargeDeclinedInsufficientFunds": "4000000000009995",
    "pm_card_chargeDeclinedInsufficientFunds": "4000000000009995",
    "pm_card_chargeCustomerFail": "4000000000000341",
    "pm_card_authenticationRequiredOnSetup": "4000002500003155",
    "pm_card_authenticationRequired": "4000002760003184",
    "pm_card_createDispute": "4000000000000259",
    "pm_card_pendingRefund": "4000000000007726",
    "pm_card_refundFail": "4000000000005126",
}
"""The ids that stand for a test card wherever a payment method is asked for."""

_ACCOUNTS: Final = (
    TestAccount("DE89370400440532013000"),
    TestAccount("DE08370400440532013003", after_s=LATE_S),
    TestAccount("DE62370400440532013001", succeeds=False),
    TestAccount("DE78370400440532013004", succeeds=False, after_s=LATE_S),
    TestAccount("DE35370400440532013002", dispute="debit_not_authorized"),
    TestAccount("FR1420041010050500013M02606"),
    TestAccount("FR3020041010050500013M02609", after_s=LATE_S),
    TestAccount("FR8420041010050500013M02607", succeeds=False),
    TestAccount("FR7920041010050500013M02600", succeeds=False, after_s=LATE_S),
    TestAccount("FR5720041010050500013M02608", dispute="debit_not_authorized"),
)
_BY_IBAN: Final = {account.iban: account for account in _ACCOUNTS}


def card(number: str) -> TestCard:
    """The test card of that number, spaces aside. Raises `StripeError` (402) for any other."""
    digits = number.replace(" ", "").replace("-", "")
    if digits in _BY_NUMBER:
        return _BY_NUMBER[digits]
    raise (NOT_A_TEST_CARD if _is_card_number(digits) else INCORRECT_NUMBER).error(param="number")


def account(iban: str) -> TestAccount:
    """The test account of that IBAN. Raises `StripeError` for any other."""
    compact = iban.replace(" ", "").upper()
    if compact in _BY_IBAN:
        return _BY_IBAN[compact]
    raise StripeError(
        400,
        "invalid_request_error",
        "The IBAN you provided is invalid: only test IBANs work here.",
        code="invalid_bank_account_iban",
        param="sepa_debit[iban]",
    )


def all_test_instruments() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """All numbers and all IBANs."""
    return tuple(_BY_NUMBER), tuple(_BY_IBAN)


def _is_card_number(digits: str) -> bool:
    """By Luhn's check digit."""
    if not digits.isascii() or not digits.isdigit() or not 12 <= len(digits) <= 19:  # noqa: PLR2004 -- ISO/IEC 7812
        return False
    weighted = [int(digit) * (1 + place % 2) for place, digit in enumerate(reversed(digits))]
    return sum(number // 10 + number % 10 for number in weighted) % 10 == 0

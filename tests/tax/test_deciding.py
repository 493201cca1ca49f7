"""How a supply is taxed: the directive's rules, and territories with rules of their own."""

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chappe_billing.tax.areas import MEMBER_STATES
from chappe_billing.tax.deciding import (
    OUTSIDE_SCOPE,
    REVERSE_CHARGE,
    BuyerFacts,
    Decision,
    NumberState,
    Reason,
    Ruling,
    SellerFacts,
    decide,
)
from chappe_billing.tax.treatment import TaxCategory, TaxTreatment

RATES = {"FR": 2000, "DE": 1900, "FI": 2550, "ES": 2100, "IT": 2200, "PT": 2300, "AT": 2000, "GR": 2400, "CH": 810}
DAY = date(2026, 11, 23)
FRENCH = SellerFacts("FR", "75007")
CONFIRMED = NumberState.CONFIRMED


def of(seller: SellerFacts, buyer: BuyerFacts, ruling: Ruling | None = None) -> Decision:
    return decide(seller, buyer, on=DAY, rate_of=RATES.get, ruling=ruling)


def at(rate_bp: int) -> TaxTreatment:
    return TaxTreatment(TaxCategory.STANDARD, rate_bp)


@pytest.mark.parametrize(
    ("seller", "buyer", "reason", "treatment"),
    [
        (FRENCH, BuyerFacts("FR", "13001"), Reason.DOMESTIC, at(2000)),
        (FRENCH, BuyerFacts("FR", "13001", "FR40303265045", CONFIRMED), Reason.DOMESTIC, at(2000)),
        (FRENCH, BuyerFacts("FR", "13001", "DE123456789", NumberState.PENDING), Reason.DOMESTIC, at(2000)),
        (FRENCH, BuyerFacts("MC", "98000", "FR40303265045", CONFIRMED), Reason.DOMESTIC, at(2000)),
        (FRENCH, BuyerFacts("FR", "98000"), Reason.DOMESTIC, at(2000)),
        (FRENCH, BuyerFacts("DE", "10115", "DE123456789", CONFIRMED), Reason.REVERSE_CHARGE, REVERSE_CHARGE),
        (FRENCH, BuyerFacts("GR", "10431", "EL123456789", CONFIRMED), Reason.REVERSE_CHARGE, REVERSE_CHARGE),
        (FRENCH, BuyerFacts("DE", "10115", "DE123456789", NumberState.PENDING), Reason.NUMBER_PENDING, None),
        (FRENCH, BuyerFacts("DE", "10115", "DE123456789", NumberState.INVALID), Reason.SELLERS_RATE, at(2000)),
        (FRENCH, BuyerFacts("DE", "10115"), Reason.SELLERS_RATE, at(2000)),
        (FRENCH, BuyerFacts("DE", "10115", "FR40303265045", CONFIRMED), Reason.NUMBER_OF_SELLERS_STATE, None),
        (SellerFacts("FR", one_stop_shop=True), BuyerFacts("DE", "10115"), Reason.BUYERS_RATE, at(1900)),
        (SellerFacts("FR", one_stop_shop=True), BuyerFacts("PT", "9000-036"), Reason.TERRITORY, None),
        (SellerFacts("FR", one_stop_shop=True), BuyerFacts("PT", "1000-001"), Reason.BUYERS_RATE, at(2300)),
        (SellerFacts("FR", one_stop_shop=True), BuyerFacts("SE", "111 20"), Reason.NO_RATE, None),
        (FRENCH, BuyerFacts("PT", "9000-036", "PT123456789", CONFIRMED), Reason.REVERSE_CHARGE, REVERSE_CHARGE),
        (FRENCH, BuyerFacts("US", "10001"), Reason.OUTSIDE_UNION, OUTSIDE_SCOPE),
        (FRENCH, BuyerFacts("CH", "8001", "CHE123456789MWST"), Reason.OUTSIDE_UNION, OUTSIDE_SCOPE),
        (FRENCH, BuyerFacts("GB", "BT1 5GS", "XI123456789", CONFIRMED), Reason.OUTSIDE_UNION, OUTSIDE_SCOPE),
        (FRENCH, BuyerFacts("ES", "35001", "ESB12345678", CONFIRMED), Reason.OUTSIDE_UNION, OUTSIDE_SCOPE),
        (FRENCH, BuyerFacts("ES", "E-38001"), Reason.OUTSIDE_UNION, OUTSIDE_SCOPE),
        (FRENCH, BuyerFacts("ES", "28001", "ESB12345678", CONFIRMED), Reason.REVERSE_CHARGE, REVERSE_CHARGE),
        (FRENCH, BuyerFacts("FI", "22100", "FI12345678", CONFIRMED), Reason.OUTSIDE_UNION, OUTSIDE_SCOPE),
        (FRENCH, BuyerFacts("DE", "27498"), Reason.OUTSIDE_UNION, OUTSIDE_SCOPE),
        (FRENCH, BuyerFacts("RE", "97400"), Reason.TERRITORY, None),
        (FRENCH, BuyerFacts("FR", "97110"), Reason.TERRITORY, None),
        (FRENCH, BuyerFacts("FR", "97300"), Reason.OUTSIDE_UNION, OUTSIDE_SCOPE),
        (FRENCH, BuyerFacts("NC", "98800"), Reason.OUTSIDE_UNION, OUTSIDE_SCOPE),
        (FRENCH, BuyerFacts("FR", "98800"), Reason.OUTSIDE_UNION, OUTSIDE_SCOPE),
        (SellerFacts("DE", "60311"), BuyerFacts("RE", "97400"), Reason.OUTSIDE_UNION, OUTSIDE_SCOPE),
        (SellerFacts("DE", "60311"), BuyerFacts("DE", "78266"), Reason.OUTSIDE_UNION, OUTSIDE_SCOPE),
        (SellerFacts("ES", "28001"), BuyerFacts("ES", "51001"), Reason.OUTSIDE_UNION, OUTSIDE_SCOPE),
        (SellerFacts("FI", "00100"), BuyerFacts("AX", "22100"), Reason.TERRITORY, None),
        (SellerFacts("ES", "35001"), BuyerFacts("ES", "28001"), Reason.TERRITORY, None),
        (SellerFacts("CH", "8001"), BuyerFacts("LI", "9490"), Reason.DOMESTIC, at(810)),
        (SellerFacts("CH", "8001"), BuyerFacts("DE", "10115", "DE123456789", CONFIRMED), Reason.OUTSIDE_UNION,
         OUTSIDE_SCOPE),
        (SellerFacts("CH", "8001"), BuyerFacts("DE", "10115"), Reason.TERRITORY, None),
        (SellerFacts(None), BuyerFacts("DE"), Reason.NO_SELLER_COUNTRY, None),
        (FRENCH, BuyerFacts(None, vat_number="DE123456789", number=CONFIRMED), Reason.NO_BUYER_COUNTRY, None),
    ],
)  # fmt: skip
def test_a_supply_is_taxed_as_the_law_says(
    seller: SellerFacts, buyer: BuyerFacts, reason: Reason, treatment: TaxTreatment | None
) -> None:
    assert of(seller, buyer) == Decision(reason, treatment)


def test_the_operators_ruling_goes_before_every_rule_from_its_day_on() -> None:
    buyer = BuyerFacts("RE", "97400")
    assert of(FRENCH, buyer, Ruling(DAY, at(850))) == Decision(Reason.RULING, at(850))
    assert of(FRENCH, buyer, Ruling(date(2026, 11, 24), at(850))).treatment is None


COUNTRIES = st.sampled_from([*sorted(MEMBER_STATES), "MC", "CH", "GB", "US", "AX", "RE"])
POSTAL = st.none() | st.from_regex(r"[0-9]{4,5}", fullmatch=True)
SELLERS = st.builds(SellerFacts, COUNTRIES, POSTAL, one_stop_shop=st.booleans())
BUYERS = st.builds(
    BuyerFacts,
    COUNTRIES,
    POSTAL,
    vat_number=st.sampled_from([None, "DE123456789", "FR40303265045", "XI123456789", "GB123456789"]),
    number=st.sampled_from(NumberState),
)


@given(SELLERS, BUYERS)
def test_nobody_is_spared_the_tax_for_a_number_that_no_register_confirmed(
    seller: SellerFacts, buyer: BuyerFacts
) -> None:
    decision = of(seller, buyer)
    if decision.reason is Reason.REVERSE_CHARGE:
        assert buyer.number is CONFIRMED
        assert buyer.country not in {"GB", "US", "CH", "AX", "RE"}
    if decision.treatment is not None and decision.treatment.category is TaxCategory.STANDARD:
        assert decision.treatment.rate_bp in RATES.values()

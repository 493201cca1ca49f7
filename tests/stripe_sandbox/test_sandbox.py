"""Against a real Stripe sandbox, for whoever has one: the adapter's words are Stripe's."""

import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from chappe_billing.payments.models import Method
from chappe_billing.payments.port import Charge, IntentState, MakeCustomer, OpenCheckout, PayBack, PaymentSeen, Sending
from chappe_billing.payments.stripe_service import StripeService, StripeSettings

_KEY = os.environ.get("CHAPPE_STRIPE_SANDBOX_KEY", "")
pytestmark = pytest.mark.skipif(
    not _KEY.startswith("sk_test_"),
    reason="CHAPPE_STRIPE_SANDBOX_KEY is no sandbox's key (sk_test_…): nothing was compared with Stripe itself",
)


@pytest.fixture
async def service() -> AsyncIterator[StripeService]:
    made = StripeService(StripeSettings(_KEY, "whsec_unused"))
    yield made
    await made.close()


async def _customer(service: StripeService) -> str:
    order = MakeCustomer(name="Chappe's tests", tenant="ten_test")
    return (await service.perform(Sending(uuid4(), order, None))).service_id


async def test_a_page_is_opened_once_and_found_again(service: StripeService) -> None:
    order = OpenCheckout(
        payment="pay_test",
        gross_minor=1_200,
        currency="EUR",
        method=Method.CARD,
        description="Credit for inference",
        return_url="https://portal.example/balance",
        save=True,
    )
    sending = Sending(uuid4(), order, await _customer(service))
    first = await service.perform(sending)
    assert await service.perform(sending) == first
    found = await service.find(sending, datetime.now(UTC) - timedelta(minutes=5))
    assert found is not None
    assert found.service_id == first.service_id


async def test_a_charge_and_its_refund(service: StripeService) -> None:
    customer = await _customer(service)
    method = await service._client.v1.payment_methods.attach_async("pm_card_visa", {"customer": customer})
    charge = Charge(
        payment="pay_test",
        gross_minor=1_200,
        currency="EUR",
        method=Method.CARD,
        method_id=method.id,
        description="Credit for inference",
    )
    paid = await service.perform(Sending(uuid4(), charge, customer))
    assert isinstance(paid.seen, PaymentSeen)
    assert (paid.seen.state, paid.seen.received_minor, paid.seen.payment) == (IntentState.SUCCEEDED, 1_200, "pay_test")
    back = PayBack(refund=str(uuid4()), intent_id=paid.service_id, gross_minor=500)
    assert (await service.perform(Sending(uuid4(), back, customer))).seen is not None

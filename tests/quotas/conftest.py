"""One control plane for the suite, with an administrator of the operator's; each test brings tenants of its own."""

from collections.abc import AsyncIterator

import pytest

from chappe_tenants.operators.service import OperatorRole, put_operator
from tests.conftest import PostgresServer
from tests.control.running import hashing_with, quick_hasher, running_control
from tests.control.world import CREDENTIALS, MANIFEST
from tests.pages.browser import PASSWORD
from tests.quotas.shop import ADMINISTRATOR, Shop

# A message that is delivered is emptied, which the control plane's workers do whenever they come to it.
_KEEP_MESSAGES = (
    "CREATE TABLE told (id uuid PRIMARY KEY, topic text NOT NULL, payload jsonb NOT NULL)",
    """
    CREATE FUNCTION keep_message() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public AS $$
    BEGIN
        INSERT INTO told VALUES (NEW.id, NEW.topic, NEW.payload);
        RETURN NULL;
    END $$
    """,
    "CREATE TRIGGER keep_message AFTER INSERT ON outbox FOR EACH ROW EXECUTE FUNCTION keep_message()",
)


@pytest.fixture(scope="package")
async def shop(postgres: PostgresServer) -> AsyncIterator[Shop]:
    with hashing_with(quick_hasher()):
        async with running_control(postgres, MANIFEST, CREDENTIALS) as control:
            async with control.database.operator() as session:
                await put_operator(session, email=ADMINISTRATOR, password=PASSWORD, role=OperatorRole.ADMINISTRATOR)
            shop = Shop(control)
            for statement in _KEEP_MESSAGES:
                await shop.sql(statement)
            await shop.administrator.console_sign_in(ADMINISTRATOR)
            yield shop

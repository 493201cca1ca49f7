"""A tenant's terms are agreed and ended on a page of the console."""

import re
from datetime import UTC, datetime

from chappe_kernel.ids import new_id
from chappe_tenants.operators.service import OperatorRole
from tests.console.world import ConsoleWorld, show
from tests.portal.reading import read_page

FINANCE = OperatorRole.FINANCE
ONCE = re.compile(r'name="once" value="([0-9a-f]+)"')
THIS_MONTH = datetime.now(UTC).strftime("%Y-%m")


async def test_a_term_is_agreed_once_and_ended(console: ConsoleWorld) -> None:
    path = f"/console/tenants/{show(await console.tenant(f'Contract {new_id()}'))}/prices"
    visitor = await console.operator(FINANCE)
    found = ONCE.search((await visitor.get(f"{path}?agree=1")).text)
    assert found is not None
    for _ in range(2):
        answer = await visitor.post(
            f"{path}/terms", kind="minimum", first_month=THIS_MONTH, last_month="", amount="500", once=found.group(1)
        )
        assert (answer.status_code, answer.headers["location"]) == (303, path)
    page = await console.read(path, FINANCE)
    (row,) = page.by_id("terms-table").rows()
    assert row[:2] == ["Minimum", "€500.00"] and row[3] == "until it is ended"
    (end,) = (form.attributes["action"] for form in page.all("form") if form.attributes["action"].endswith("/end"))
    for _ in range(2):
        assert (await visitor.post(end)).status_code == 303
    (row,) = (await console.read(path, FINANCE)).by_id("terms-table").rows()
    assert row[2] == row[3] and row[4] == "In force"


async def test_a_volume_discount_has_tiers(console: ConsoleWorld) -> None:
    path = f"/console/tenants/{show(await console.tenant(f'Tiers {new_id()}'))}/prices"
    visitor = await console.operator(FINANCE)
    asked = {"kind": "volume_discount", "first_month": THIS_MONTH, "above_1": "0", "percent_1": "5"}
    wrong = await visitor.post(f"{path}/terms", **asked, above_2="100", percent_2="101")
    assert wrong.status_code == 400
    assert "percentage" in read_page(wrong.text).by_id("percent_2-error").text
    assert (await visitor.post(f"{path}/terms", **asked, above_2="100", percent_2="7.5")).status_code == 303
    (row,) = (await console.read(path, FINANCE)).by_id("terms-table").rows()
    assert row[1] == "5% from €0.00 on 7.5% from €100.00 on"


async def test_each_mistake_stands_at_its_field(console: ConsoleWorld) -> None:
    path = f"/console/tenants/{show(await console.tenant(f'Mistakes {new_id()}'))}/prices"
    visitor = await console.operator(FINANCE)
    for field, asked in {
        "first_month": {"kind": "minimum", "first_month": "2020-01", "amount": "1"},
        "last_month": {"kind": "commitment", "first_month": THIS_MONTH, "amount": "1"},
        "amount": {"kind": "minimum", "first_month": THIS_MONTH},
        "above_1": {"kind": "volume_discount", "first_month": THIS_MONTH},
        "kind": {"kind": "gift", "first_month": THIS_MONTH},
    }.items():
        answer = await visitor.post(f"{path}/terms", **asked)
        assert answer.status_code == 400
        assert read_page(answer.text).by_id(f"{field}-error").text, field

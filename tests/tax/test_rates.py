"""The rates that the database begins with are those of `eu-vat-rates-data`: an update that knows another one fails
here, and the change has to be scheduled by a migration."""

from datetime import date

import eu_vat_rates_data

from chappe_billing.tax.areas import MEMBER_STATES
from chappe_billing.tax.queries import read_rates
from chappe_store.session import Database

# Taxed as another country, or by no rate of ours.
_NOT_OURS = {"LI", "MC", "XI"}


async def test_the_first_rates_are_the_packages(database: Database) -> None:
    async with database.operator() as session:
        found = await read_rates(session, date.fromisoformat(eu_vat_rates_data.data_version))
    package = {
        country: round(rate["standard"] * 100)
        for country, rate in eu_vat_rates_data.get_all_rates().items()
        if country not in _NOT_OURS
    }
    assert found == package
    assert {country for country in package if eu_vat_rates_data.is_eu_member(country)} == MEMBER_STATES

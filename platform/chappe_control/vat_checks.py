"""The control plane asks VIES about tenants' VAT numbers, if the operator has said where it is."""

from chappe_billing.tax.checking import check_due, note_new_numbers
from chappe_billing.tax.vies import Vies
from chappe_store.session import Database


async def check_vat_numbers(database: Database, vies: Vies | None, recheck_days: int) -> int:
    """How many were looked at. Without a register nobody is asked, and new numbers only wait for the operator."""
    if vies is None:
        return await note_new_numbers(database)
    return await check_due(database, vies, recheck_days=recheck_days)

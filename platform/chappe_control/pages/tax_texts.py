"""How something is taxed, and what is known of VAT numbers, in words: the same in the portal and the console."""

from chappe_billing.tax.deciding import NumberState
from chappe_billing.tax.treatment import TaxCategory
from chappe_control.pages.languages import N_

CATEGORIES = {
    TaxCategory.STANDARD: N_("VAT is added"),
    TaxCategory.REVERSE_CHARGE: N_("Reverse charge"),
    TaxCategory.OUTSIDE_SCOPE: N_("Not subject to VAT"),
}
NUMBER_STATES = {
    NumberState.NONE: (N_("Not checked"), "secondary"),
    NumberState.PENDING: (N_("Being checked"), "yellow"),
    NumberState.CONFIRMED: (N_("Confirmed"), "green"),
    NumberState.INVALID: (N_("Not valid"), "red"),
}
SOURCES = {"vies": N_("VIES, the Union's register"), "operator": N_("Entered by hand")}

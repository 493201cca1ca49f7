"""Why a tenant is taxed as it is, said to the operator."""

from chappe_billing.tax.deciding import Reason
from chappe_control.pages.languages import N_

REASONS = {
    Reason.RULING: N_("A ruling decides."),
    Reason.DOMESTIC: N_("It is in its seller's country."),
    Reason.REVERSE_CHARGE: N_("It is in another member state, and its VAT number is confirmed."),
    Reason.SELLERS_RATE: N_("It is in another member state without a confirmed VAT number: the seller's rate."),
    Reason.BUYERS_RATE: N_(
        "It is in another member state without a confirmed VAT number: its own country's rate, by the one-stop shop."
    ),
    Reason.OUTSIDE_UNION: N_("The seller's VAT does not apply where it is."),
    Reason.NO_SELLER_COUNTRY: N_("Undecided: its legal entity has no country."),
    Reason.NO_BUYER_COUNTRY: N_("Undecided: its country is not known."),
    Reason.NUMBER_PENDING: N_("Undecided: its VAT number is being checked."),
    Reason.NUMBER_OF_SELLERS_STATE: N_(
        "Undecided: its VAT number is of the seller's country, and its address is not. Rule it."
    ),
    Reason.TERRITORY: N_("Undecided: its address is in a territory with tax rules of its own. Rule it."),
    Reason.NO_RATE: N_("Undecided: no VAT rate is known for that country today."),
}

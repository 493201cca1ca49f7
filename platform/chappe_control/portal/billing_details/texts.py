"""Why purchases are taxed so, said to who buys."""

from chappe_billing.tax.deciding import Reason
from chappe_control.pages.languages import N_

REASONS = {
    Reason.RULING: N_("Your provider decided this for your organisation."),
    Reason.DOMESTIC: N_("You are in your provider's country, so its VAT is added."),
    Reason.REVERSE_CHARGE: N_(
        "Your VAT number in another member state is confirmed, so no VAT is added: you declare it in your country."
    ),
    Reason.SELLERS_RATE: N_(
        "You are in another member state without a confirmed VAT number, so your provider's VAT is added."
    ),
    Reason.BUYERS_RATE: N_(
        "You are in another member state without a confirmed VAT number, so your country's VAT is added."
    ),
    Reason.OUTSIDE_UNION: N_("What your provider sells to your country is not subject to its VAT, so none is added."),
    Reason.NO_SELLER_COUNTRY: N_("Your provider's own country is not known yet. Only your provider can add it."),
    Reason.NO_BUYER_COUNTRY: N_("Your country is not known yet. Add your address."),
    Reason.NUMBER_PENDING: N_("Your VAT number is being checked. This is decided when there is an answer."),
    Reason.NUMBER_OF_SELLERS_STATE: N_(
        "Your VAT number is of your provider's country, and your address is not. Ask your provider to decide."
    ),
    Reason.TERRITORY: N_("Your address is in a territory with tax rules of its own. Ask your provider to decide."),
    Reason.NO_RATE: N_("No VAT rate is known for your country today. Ask your provider to decide."),
}

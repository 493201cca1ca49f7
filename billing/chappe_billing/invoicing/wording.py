"""What lines of invoices are called, in the languages that invoices are written in. Pure.

Kept with the document when it is issued: a better word later changes no old invoice.
"""

from collections.abc import Mapping
from types import MappingProxyType

from chappe_billing.invoicing.charges import Charge, Component

LANGUAGES = ("en", "fr", "de")

_COMPONENTS: Mapping[str, Mapping[Component, str]] = MappingProxyType(
    {
        "en": {
            Component.INPUT: "input tokens",
            Component.CACHED_INPUT: "cached input tokens",
            Component.OUTPUT: "output tokens",
            Component.REQUEST: "requests",
            Component.SECOND: "seconds",
            Component.IMAGE: "images",
            Component.NOT_CHARGED: "usage beyond the budget, not charged",
            Component.ARCHIVED: "usage",
            Component.CORRECTION: "correction of usage",
            Component.VOLUME_DISCOUNT: "Volume discount",
            Component.MINIMUM_FEE: "Minimum charge",
            Component.COMMITMENT_FEE: "Commitment",
        },
        "fr": {
            Component.INPUT: "jetons d'entrée",
            Component.CACHED_INPUT: "jetons d'entrée en cache",
            Component.OUTPUT: "jetons de sortie",
            Component.REQUEST: "requêtes",
            Component.SECOND: "secondes",
            Component.IMAGE: "images",
            Component.NOT_CHARGED: "usage au-delà du budget, non facturé",
            Component.ARCHIVED: "usage",
            Component.CORRECTION: "correction d'usage",
            Component.VOLUME_DISCOUNT: "Remise sur volume",
            Component.MINIMUM_FEE: "Minimum de facturation",
            Component.COMMITMENT_FEE: "Engagement",
        },
        "de": {
            Component.INPUT: "Eingabe-Token",
            Component.CACHED_INPUT: "zwischengespeicherte Eingabe-Token",
            Component.OUTPUT: "Ausgabe-Token",
            Component.REQUEST: "Anfragen",
            Component.SECOND: "Sekunden",
            Component.IMAGE: "Bilder",
            Component.NOT_CHARGED: "Nutzung über das Budget hinaus, nicht berechnet",
            Component.ARCHIVED: "Nutzung",
            Component.CORRECTION: "Korrektur von Nutzung",
            Component.VOLUME_DISCOUNT: "Mengenrabatt",
            Component.MINIMUM_FEE: "Mindestbetrag",
            Component.COMMITMENT_FEE: "Abnahmeverpflichtung",
        },
    }
)
_TEXTS: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "en": {
            "gift": "Credit",
            "gift_back": "Credit that was taken back",
            "advance": "Advance payment, invoice {number}",
            "advance_back": "Advance payment that was taken back, invoice {number}",
            "top_up": "Payment on account",
            "advances": "Advance payments",
            "taken_back": "The payment was taken back.",
            "terms": "Payable within {days} days.",
            "paid": "Paid. Nothing is due.",
        },
        "fr": {
            "gift": "Crédit",
            "gift_back": "Crédit repris",
            "advance": "Acompte, facture {number}",
            "advance_back": "Acompte repris, facture {number}",
            "top_up": "Versement d'acompte",
            "advances": "Acomptes",
            "taken_back": "Le versement a été repris.",
            "terms": "Payable sous {days} jours.",
            "paid": "Acquittée. Rien n'est dû.",
        },
        "de": {
            "gift": "Guthaben",
            "gift_back": "Zurückgenommenes Guthaben",
            "advance": "Anzahlung, Rechnung {number}",
            "advance_back": "Zurückgebuchte Anzahlung, Rechnung {number}",
            "top_up": "Anzahlung",
            "advances": "Anzahlungen",
            "taken_back": "Die Zahlung wurde zurückgenommen.",
            "terms": "Zahlbar innerhalb von {days} Tagen.",
            "paid": "Bezahlt. Es ist nichts fällig.",
        },
    }
)


def text(language: str, name: str, **values: object) -> str:
    return _TEXTS[language][name].format(**values)


def describe(charge: Charge, language: str) -> str:
    """For example `tiny-chat, fr-par: input tokens`."""
    what = _COMPONENTS[language][charge.component]
    where = ", ".join(name for name in (charge.listing, charge.region) if name)
    if charge.month:
        return f"{what} {charge.month}"
    return f"{where}: {what}" if where else what

"""A document's content as XML: UN/CEFACT's Cross Industry Invoice D22B, as EN 16931 uses it.

A pure function of the content: the same bytes whenever and wherever it is called. Comments name the business terms.
"""

from datetime import date
from typing import Any

from lxml import etree

from chappe_billing.documents.amounts import minor_text, percent_text, price_text
from chappe_billing.documents.content import (
    DocumentAllowance,
    DocumentContent,
    DocumentKind,
    DocumentLine,
    DocumentParty,
    PaymentTerms,
    PrecedingDocument,
    TaxSubtotal,
)
from chappe_billing.documents.leitweg import is_leitweg_id
from chappe_billing.documents.texts import texts_of
from chappe_billing.tax.treatment import TaxCategory, TaxTreatment

EN_16931 = "urn:cen.eu:en16931:2017"
XRECHNUNG = f"{EN_16931}#compliant#urn:xeinkauf.de:kosit:xrechnung_3.0"
_PROCESS = "urn:fdc:peppol.eu:2017:poacc:billing:01:1.0"
_TYPE_CODES = {DocumentKind.INVOICE: "380", DocumentKind.ADVANCE: "386", DocumentKind.CREDIT_NOTE: "381"}
_SEPA_TRANSFER, _NOT_DEFINED = "58", "1"

_NAMESPACES = {
    "rsm": "urn:un:unece:uncefact:data:standard:CrossIndustryInvoice:100",
    "ram": "urn:un:unece:uncefact:data:standard:ReusableAggregateBusinessInformationEntity:100",
    "qdt": "urn:un:unece:uncefact:data:standard:QualifiedDataType:100",
    "udt": "urn:un:unece:uncefact:data:standard:UnqualifiedDataType:100",
}

Element = Any  # lxml ships no types


def guideline_of(content: DocumentContent) -> str:
    """BT-24: XRechnung for buyers with a Leitweg-ID, else plain EN 16931."""
    return XRECHNUNG if is_leitweg_id(content.buyer_reference) else EN_16931


def render_xml(content: DocumentContent) -> bytes:
    """UTF-8. Nothing is checked here: `rules.check` does that."""
    root = etree.Element(_name("rsm:CrossIndustryInvoice"), nsmap=_NAMESPACES)
    context = _add(root, "rsm:ExchangedDocumentContext")
    _add(context, "ram:BusinessProcessSpecifiedDocumentContextParameter/ram:ID", _PROCESS)
    _add(context, "ram:GuidelineSpecifiedDocumentContextParameter/ram:ID", guideline_of(content))
    _add_head(root, content)
    transaction = _add(root, "rsm:SupplyChainTradeTransaction")
    for number, line in enumerate(content.lines, start=1):
        _add_line(transaction, number, line, content)
    _add_agreement(transaction, content)
    _add(transaction, "ram:ApplicableHeaderTradeDelivery")
    _add_settlement(transaction, content)
    etree.indent(root)
    rendered: bytes = etree.tostring(root, xml_declaration=True, encoding="UTF-8")
    return rendered


def _add_head(root: Element, content: DocumentContent) -> None:
    document = _add(root, "rsm:ExchangedDocument")
    _add(document, "ram:ID", content.number)
    _add(document, "ram:TypeCode", _TYPE_CODES[content.kind])
    _add_date(_add(document, "ram:IssueDateTime"), content.issued_on)
    if content.note is not None:
        _add(document, "ram:IncludedNote/ram:Content", content.note)


def _add_line(transaction: Element, number: int, line: DocumentLine, content: DocumentContent) -> None:
    item = _add(transaction, "ram:IncludedSupplyChainTradeLineItem")
    _add(item, "ram:AssociatedDocumentLineDocument/ram:LineID", str(number))
    product = _add(item, "ram:SpecifiedTradeProduct")
    _add(product, "ram:Name", line.description)
    for name in ("project", "listing", "component", "region"):
        value = getattr(line, name)
        if value:
            characteristic = _add(product, "ram:ApplicableProductCharacteristic")
            _add(characteristic, "ram:Description", name)
            _add(characteristic, "ram:Value", value)
    price = _add(item, "ram:SpecifiedLineTradeAgreement/ram:NetPriceProductTradePrice")
    _add(price, "ram:ChargeAmount", price_text(line.unit_price_nano, content.minor_digits))
    if line.price_per != 1:
        _add(price, "ram:BasisQuantity", str(line.price_per), unitCode=line.unit)
    _add(item, "ram:SpecifiedLineTradeDelivery/ram:BilledQuantity", str(line.quantity), unitCode=line.unit)
    settlement = _add(item, "ram:SpecifiedLineTradeSettlement")
    _add_treatment(_add(settlement, "ram:ApplicableTradeTax"), line.treatment)
    _add_period(settlement, line.period_from, line.period_to)
    total = _add(settlement, "ram:SpecifiedTradeSettlementLineMonetarySummation")
    _add(total, "ram:LineTotalAmount", minor_text(line.net_minor, content.minor_digits))


def _add_agreement(transaction: Element, content: DocumentContent) -> None:
    agreement = _add(transaction, "ram:ApplicableHeaderTradeAgreement")
    if content.buyer_reference is not None:
        _add(agreement, "ram:BuyerReference", content.buyer_reference)
    # EN 16931 forbids a VAT identifier where nothing is in the scope of the tax (BR-O-2 to 4).
    shows_vat = all(tax.category is not TaxCategory.OUTSIDE_SCOPE for tax in content.taxes)
    _add_party(_add(agreement, "ram:SellerTradeParty"), content.seller, is_seller=True, shows_vat=shows_vat)
    _add_party(_add(agreement, "ram:BuyerTradeParty"), content.buyer, is_seller=False, shows_vat=shows_vat)
    if content.purchase_order is not None:
        _add(agreement, "ram:BuyerOrderReferencedDocument/ram:IssuerAssignedID", content.purchase_order)
    if content.contract_reference is not None:
        _add(agreement, "ram:ContractReferencedDocument/ram:IssuerAssignedID", content.contract_reference)


def _add_party(element: Element, party: DocumentParty, *, is_seller: bool, shows_vat: bool) -> None:
    _add(element, "ram:Name", party.name)
    if party.registration is not None or party.trading_name is not None:
        organisation = _add(element, "ram:SpecifiedLegalOrganization")
        _add_given(organisation, "ram:ID", party.registration)
        _add_given(organisation, "ram:TradingBusinessName", party.trading_name)
    if party.contact_name or party.phone or party.email:
        contact = _add(element, "ram:DefinedTradeContact")
        _add_given(contact, "ram:PersonName", party.contact_name)
        _add_given(contact, "ram:TelephoneUniversalCommunication/ram:CompleteNumber", party.phone)
        _add_given(contact, "ram:EmailURIUniversalCommunication/ram:URIID", party.email)
    address = _add(element, "ram:PostalTradeAddress")
    _add_given(address, "ram:PostcodeCode", party.postal_code)
    _add_given(address, "ram:LineOne", party.address_line_1)
    _add_given(address, "ram:LineTwo", party.address_line_2)
    _add_given(address, "ram:CityName", party.city)
    _add(address, "ram:CountryID", party.country)
    if party.email is not None:
        _add(element, "ram:URIUniversalCommunication/ram:URIID", party.email, schemeID="EM")
    if party.vat_number is not None and (shows_vat or is_seller):
        scheme = "VA" if shows_vat else "FC"
        _add(element, "ram:SpecifiedTaxRegistration/ram:ID", party.vat_number, schemeID=scheme)


def _add_settlement(transaction: Element, content: DocumentContent) -> None:
    settlement = _add(transaction, "ram:ApplicableHeaderTradeSettlement")
    _add_given(settlement, "ram:PaymentReference", content.payment.reference)
    _add(settlement, "ram:InvoiceCurrencyCode", content.currency)
    _add_payment_means(settlement, content.payment)
    for tax in content.taxes:
        _add_subtotal(settlement, tax, content.minor_digits)
    _add_period(settlement, content.period_from, content.period_to)
    for allowance in content.allowances:
        _add_allowance(settlement, allowance, content.minor_digits)
    terms = content.payment.text or texts_of(content.language).terms(content)
    term = _add(settlement, "ram:SpecifiedTradePaymentTerms")
    _add(term, "ram:Description", terms)
    if content.due_on is not None:
        _add_date(_add(term, "ram:DueDateDateTime"), content.due_on)
    _add_totals(settlement, content)
    for document in content.preceding:
        _add_preceding(settlement, document)


def _add_payment_means(settlement: Element, payment: PaymentTerms) -> None:
    means = _add(settlement, "ram:SpecifiedTradeSettlementPaymentMeans")
    if payment.iban is None:
        _add(means, "ram:TypeCode", _NOT_DEFINED)
        return
    _add(means, "ram:TypeCode", _SEPA_TRANSFER)
    account = _add(means, "ram:PayeePartyCreditorFinancialAccount")
    _add(account, "ram:IBANID", payment.iban)
    _add_given(account, "ram:AccountName", payment.account_name)
    _add_given(means, "ram:PayeeSpecifiedCreditorFinancialInstitution/ram:BICID", payment.bic)


def _add_subtotal(settlement: Element, tax: TaxSubtotal, minor_digits: int) -> None:
    element = _add(settlement, "ram:ApplicableTradeTax")
    _add(element, "ram:CalculatedAmount", minor_text(tax.tax_minor, minor_digits))
    _add(element, "ram:TypeCode", "VAT")
    _add_given(element, "ram:ExemptionReason", tax.treatment.exemption_reason)
    _add(element, "ram:BasisAmount", minor_text(tax.base_minor, minor_digits))
    _add(element, "ram:CategoryCode", tax.category)
    _add_given(element, "ram:ExemptionReasonCode", tax.treatment.exemption_code)
    # BG-23 has a rate but for what is outside the scope.
    if tax.category is not TaxCategory.OUTSIDE_SCOPE:
        _add(element, "ram:RateApplicablePercent", percent_text(tax.treatment.rate_bp))


def _add_allowance(settlement: Element, allowance: DocumentAllowance, minor_digits: int) -> None:
    element = _add(settlement, "ram:SpecifiedTradeAllowanceCharge")
    _add(element, "ram:ChargeIndicator/udt:Indicator", "false")
    _add(element, "ram:ActualAmount", minor_text(allowance.net_minor, minor_digits))
    _add(element, "ram:Reason", allowance.reason)
    _add_treatment(_add(element, "ram:CategoryTradeTax"), allowance.treatment)


def _add_totals(settlement: Element, content: DocumentContent) -> None:
    total = _add(settlement, "ram:SpecifiedTradeSettlementHeaderMonetarySummation")
    digits = content.minor_digits
    allowances = sum(allowance.net_minor for allowance in content.allowances)
    _add(total, "ram:LineTotalAmount", minor_text(content.net_minor + allowances, digits))
    if content.allowances:
        _add(total, "ram:AllowanceTotalAmount", minor_text(allowances, digits))
    _add(total, "ram:TaxBasisTotalAmount", minor_text(content.net_minor, digits))
    _add(total, "ram:TaxTotalAmount", minor_text(content.tax_minor, digits), currencyID=content.currency)
    _add(total, "ram:GrandTotalAmount", minor_text(content.gross_minor, digits))
    if content.paid_minor:
        _add(total, "ram:TotalPrepaidAmount", minor_text(content.paid_minor, digits))
    _add(total, "ram:DuePayableAmount", minor_text(content.due_minor, digits))


def _add_preceding(settlement: Element, document: PrecedingDocument) -> None:
    element = _add(settlement, "ram:InvoiceReferencedDocument")
    _add(element, "ram:IssuerAssignedID", document.number)
    moment = _add(element, "ram:FormattedIssueDateTime")
    _add(moment, "qdt:DateTimeString", f"{document.issued_on:%Y%m%d}", format="102")


def _add_treatment(element: Element, treatment: TaxTreatment) -> None:
    _add(element, "ram:TypeCode", "VAT")
    _add(element, "ram:CategoryCode", treatment.category)
    if treatment.category is not TaxCategory.OUTSIDE_SCOPE:
        _add(element, "ram:RateApplicablePercent", percent_text(treatment.rate_bp))


def _add_period(element: Element, start: date | None, end: date | None) -> None:
    if start is None and end is None:
        return
    period = _add(element, "ram:BillingSpecifiedPeriod")
    if start is not None:
        _add_date(_add(period, "ram:StartDateTime"), start)
    if end is not None:
        _add_date(_add(period, "ram:EndDateTime"), end)


def _add_date(element: Element, day: date) -> None:
    _add(element, "udt:DateTimeString", f"{day:%Y%m%d}", format="102")


def _add_given(element: Element, path: str, text: str | None) -> None:
    if text is not None:
        _add(element, path, text)


def _add(element: Element, path: str, text: str | None = None, **attributes: str) -> Element:
    """The last of the new elements that `path` names, each inside the one before."""
    for step in path.split("/"):
        element = etree.SubElement(element, _name(step))
    if text is not None:
        element.text = _writable(text)
    element.attrib.update(attributes)
    return element


def _name(prefixed: str) -> str:
    prefix, _, name = prefixed.partition(":")
    return f"{{{_NAMESPACES[prefix]}}}{name}"


def _writable(text: str) -> str:
    """Without the characters that XML 1.0 cannot carry, and without blanks around."""
    return "".join(each for each in text if each in "\t\n\r" or (each >= " " and each not in "\ufffe\uffff")).strip()

"""How an organisation belongs to another one."""

from enum import StrEnum


class Relation(StrEnum):
    """What a tenant is to its parent. Only a reseller has customers, and sees and manages them."""

    SUBSIDIARY = "subsidiary"
    CUSTOMER = "customer"

"""What a rule of `chappe ledger verify` is."""

from msgspec import Struct


class Rule(Struct, frozen=True):
    """`statement` selects the rows (subject, expected, found) that break what `name` says."""

    name: str
    statement: str

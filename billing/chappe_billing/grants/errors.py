"""What can be wrong with asking for a grant."""

from chappe_kernel.errors import Unavailable


class BudgetLent(Unavailable):
    """The money is there and lent: `holders` are the gateways, with their regions, whose grants may hold it idle."""

    default_code = "budget_unavailable"

    def __init__(self, message: str, holders: frozenset[tuple[str, str]]) -> None:
        super().__init__(message)
        self.holders = holders

"""Values that stand in the statement itself, and not beside it as parameters."""

from sqlalchemy import BindParameter, Integer, bindparam


def spelt_out(number: int) -> BindParameter[int]:
    """For limits. PostgreSQL plans anew for each execution while a limit is a parameter: it could be anything. With
    dozens of partitions the planning takes longer than the work. Use it with few different numbers."""
    return bindparam(None, number, Integer(), literal_execute=True)

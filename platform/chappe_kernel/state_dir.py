"""Where a local instance keeps its state: the same answer for `up` and for the operator's commands beside it."""

from collections.abc import Mapping
from pathlib import Path

_CHECKOUT = Path(__file__).resolve().parents[2]


def state_dir(environ: Mapping[str, str]) -> Path:
    """`CHAPPE_STATE_DIR`, else `.chappe` in the checkout; of an installed wheel, in the working folder."""
    chosen = environ.get("CHAPPE_STATE_DIR")
    if chosen:
        return Path(chosen).absolute()
    return (_CHECKOUT if (_CHECKOUT / "pyproject.toml").is_file() else Path.cwd()) / ".chappe"

"""`python -m chappe_local.prepare CATALOGUE PROBE DEMO`: migrate, apply the catalogue, seed both tenants.

The same commands that an operator runs one by one, here in one process: starting Python and importing SQLAlchemy costs
more than any of them.
"""

import sys

import click

from chappe_kernel.cli import main

SELLER = (
    *("--name", "Exemple Télécom SAS", "--country", "FR", "--vat-number", "FR11123456782"),
    *("--registration", "RCS Paris 123 456 782"),
    *("--street", "1 rue du Télégraphe", "--postal-code", "75020", "--city", "Paris"),
)
"""Who sells on an instance where nobody has said it: invented, and complete enough for an invoice. It is said once;
what an operator says later stays."""


def prepare(catalogue: str, probe: str, demo: str) -> None:
    """The last line on standard output is what seeding the demo tenant printed."""
    for arguments in (
        ["db", "migrate"],
        ["catalogue", "apply", catalogue],
        ["legal-entity", "set", *SELLER, "--payments", "stripe", "--if-unsaid"],
        ["tenant", "seed", probe],
        ["tenant", "seed", demo],
    ):
        main.main(arguments, prog_name="chappe", standalone_mode=False)


if __name__ == "__main__":
    try:
        prepare(*sys.argv[1:])
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)

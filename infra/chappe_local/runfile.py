"""`run.json`: where a running instance is and how to enter it, for programs. It exists only while all of it answers."""

from typing import Any

from chappe_local.credentials import Secrets, SignIn
from chappe_local.instance import Instance
from chappe_local.manifest import model_for
from chappe_local.private_files import write_private_json


def run_document(
    instance: Instance, secrets: Secrets, tenant: str, *, catches_mail: bool = True, takes_money: bool = False
) -> dict[str, Any]:
    """Version 1 of the format. `tenant` is the demo tenant's id, `ten_…`. Without the embedded catcher there is no
    `mail`; `takes_money` says that payments go to a real Stripe and not to the stand-in."""
    mail = {"mail": {"url": instance.mail_url}} if catches_mail else {}
    payments = {"stand_in": False} if takes_money else {"stand_in": True, "url": instance.stripe_url}
    return {
        "version": 1,
        "control": {"url": instance.control_url},
        **mail,
        "payments": payments,
        "regions": [
            {"name": cell.name, "jurisdiction": cell.jurisdiction, "gateway_url": instance.gateway_url(cell)}
            for cell in instance.cells
        ],
        "models": {"chat": model_for("chat"), "embeddings": model_for("embeddings")},
        "demo": {
            "tenant": tenant,
            "api_key": secrets.api_key,
            "fr_only_api_key": secrets.fr_only_api_key,
            "management_key": secrets.management_key,
            "member": _sign_in(secrets.member),
            "operator": _sign_in(secrets.operator),
        },
    }


def write_run_file(instance: Instance, document: dict[str, Any]) -> None:
    write_private_json(instance.run_file, document)


def remove_run_file(instance: Instance) -> None:
    instance.run_file.unlink(missing_ok=True)


def _sign_in(entry: SignIn) -> dict[str, str]:
    return {"email": entry.email, "password": entry.password}

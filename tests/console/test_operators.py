"""`chappe operator`, as somebody types it: users come and change, and no password is ever an argument."""

import asyncio
import os
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

import pytest

from chappe_tenants.operators.service import OperatorRole
from tests.console.world import ConsoleWorld
from tests.control.world import PEPPERS_TEXT
from tests.pages.browser import PASSWORD

NEW_PASSWORD = "granite orchard velvet 17"


async def run(console: ConsoleWorld, *arguments: str, typed: str = "") -> tuple[int, str, str]:
    environ = {
        "PATH": os.environ["PATH"],
        "CHAPPE_DATABASE_URL": console.urls.app,
        "CHAPPE_KEY_PEPPERS": PEPPERS_TEXT,
    }
    chappe = str(Path(sys.executable).with_name("chappe"))
    process = await asyncio.create_subprocess_exec(
        chappe, "operator", *arguments, env=environ, stdin=PIPE, stdout=PIPE, stderr=PIPE, cwd="/"
    )
    out, err = await asyncio.wait_for(process.communicate(typed.encode()), 60)
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def test_a_created_user_signs_in_with_the_role_and_is_listed(console: ConsoleWorld) -> None:
    code, out, err = await run(console, "create", "Nora@Operator.example", "--role", "finance", typed=PASSWORD + "\n")
    assert (code, PASSWORD in out + err) == (0, False), err
    code, out, _ = await run(console, "list")
    assert code == 0 and "nora@operator.example\tfinance\n" in out and "argon2" not in out
    visitor = console.nobody()
    await visitor.console_sign_in("nora@operator.example")
    assert (await visitor.get("/console/revenue")).status_code == 200
    assert (await visitor.get("/console/regions")).status_code == 403


async def test_a_new_role_counts_in_open_sessions(console: ConsoleWorld) -> None:
    await run(console, "create", "omar@operator.example", typed=PASSWORD)
    visitor = console.nobody()
    await visitor.console_sign_in("omar@operator.example")
    assert (await visitor.get("/console/revenue")).status_code == 403
    assert (await run(console, "set-role", "omar@operator.example", "auditor"))[0] == 0
    assert (await visitor.get("/console/revenue")).status_code == 200


async def test_a_new_password_replaces_the_old_one_and_ends_sessions(console: ConsoleWorld) -> None:
    await run(console, "create", "paul@operator.example", typed=PASSWORD)
    visitor = console.nobody()
    await visitor.console_sign_in("paul@operator.example")
    assert (await run(console, "set-password", "paul@operator.example", typed=NEW_PASSWORD))[0] == 0
    assert (await visitor.get("/console")).headers["location"].startswith("/console/sign-in")
    answer = await visitor.post("/console/sign-in", email="paul@operator.example", password=PASSWORD)
    assert answer.status_code == 403
    await visitor.console_sign_in("paul@operator.example", NEW_PASSWORD)


async def test_a_token_is_printed_once_opens_the_api_and_ends(console: ConsoleWorld) -> None:
    await run(console, "create", "quinn@operator.example", "--role", "auditor", typed=PASSWORD)
    code, secret, err = await run(console, "create-token", "quinn@operator.example", "billing export", "--days", "7")
    assert (code, err) == (0, "")
    headers = {"authorization": f"Bearer {secret.strip()}"}
    answer = await console.http.get("/api/v1/operator/tokens", headers=headers)
    (token,) = answer.json()["items"]
    assert (token["user"], token["role"], token["name"]) == ("quinn@operator.example", "auditor", "billing export")
    assert (await run(console, "revoke-tokens", "quinn@operator.example"))[0] == 0
    assert (await console.http.get("/api/v1/operator/tokens", headers=headers)).status_code == 401


@pytest.mark.parametrize(
    ("arguments", "typed", "expected"),
    [
        (("create", "administrator@operator.example"), PASSWORD, "there is an operator with this address"),
        (("create", "no address"), PASSWORD, "not an e-mail address"),
        (("create", "new@operator.example"), "short", "12 to 256 characters"),
        (("create", "new@operator.example"), "", "12 to 256 characters"),
        (("create", "new@operator.example"), "aaaaaaaaaaaaaaaa", "easy to guess"),
        (("set-role", "nobody@operator.example", "auditor"), "", "there is no operator"),
        (("set-password", "nobody@operator.example"), PASSWORD, "there is no operator"),
        (("create-token", "nobody@operator.example", "x"), "", "there is no operator"),
        (("create-token", "administrator@operator.example", "\u202ex"), "", "control characters"),
        (("revoke-tokens", "nobody@operator.example"), "", "there is no operator"),
    ],
)
async def test_what_cannot_be_is_told_in_one_line(
    console: ConsoleWorld, arguments: tuple[str, ...], typed: str, expected: str
) -> None:
    code, out, err = await run(console, *arguments, typed=typed)
    assert (code, out) == (1, "") and expected in err
    assert "Traceback" not in err and (not typed or typed not in err)
    assert await console.sql("SELECT FROM operator_user WHERE email = 'new@operator.example'") == []


@pytest.mark.parametrize(
    "arguments",
    [
        ("create", "x@operator.example", "--role", "owner"),
        ("set-role", "x@operator.example", "root"),
        ("create", "x@operator.example", "--password", PASSWORD),
        ("create", "x@operator.example", PASSWORD),
        ("set-password", "x@operator.example", PASSWORD),
        ("create-token", "x@operator.example", "for ever", "--days", "0"),
        ("create-token", "x@operator.example", "for ever", "--days", "10000"),
    ],
)
async def test_unknown_roles_and_passwords_as_arguments_are_refused(
    console: ConsoleWorld, arguments: tuple[str, ...]
) -> None:
    assert (await run(console, *arguments))[0] == 2


async def test_the_database_knows_no_other_roles(console: ConsoleWorld) -> None:
    for role in OperatorRole:
        await console.sql("UPDATE operator_user SET role = $1 WHERE email = 'auditor@operator.example'", str(role))
    with pytest.raises(Exception, match="ck_operator_user_role"):
        await console.sql("UPDATE operator_user SET role = 'root'")
    await console.sql("UPDATE operator_user SET role = 'auditor' WHERE email = 'auditor@operator.example'")

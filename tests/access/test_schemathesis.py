"""What nobody thought of: inputs made from the OpenAPI document, valid and not, against the running server. No answer
is a fault of ours, has a status that the document does not name, or breaks its schema."""

import asyncio
import os
import sys
from asyncio.subprocess import PIPE, STDOUT
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.access.world import AccessWorld, Caller, make_world
from tests.conftest import PostgresServer
from tests.control.running import hashing_with, quick_hasher, running_control
from tests.control.world import CREDENTIALS, MANIFEST

CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
_EXAMPLES = 8
_SEED = 20261122


@pytest.fixture(scope="module")
async def own(postgres: PostgresServer) -> AsyncIterator[AccessWorld]:
    """A world of this module's own: what is made up here suspends tenants and revokes keys."""
    with hashing_with(quick_hasher()):
        async with running_control(postgres, MANIFEST, CREDENTIALS) as control:
            yield await make_world(control)


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("caller", "paths"),
    [
        (Caller.MANAGEMENT_KEY, "^/api/v1/(?!operator/)"),
        (Caller.ADMINISTRATOR_TOKEN, "^/api/v1/operator/[a-o]"),
        (Caller.ADMINISTRATOR_TOKEN, "^/api/v1/operator/[p-z]"),
    ],
)
async def test_every_answer_is_one_that_the_document_names(
    own: AccessWorld, tmp_path: Path, caller: Caller, paths: str
) -> None:
    command = [
        str(Path(sys.executable).with_name("schemathesis")),
        *("run", str(own.http.base_url.join("/schema/openapi.json")), "--include-path-regex", paths),
        *("--header", f"Authorization: {own.doors[caller].headers['authorization']}"),
        *("--phases", "examples,coverage,fuzzing", "--checks", CHECKS, "--continue-on-failure"),
        *("--max-examples", str(_EXAMPLES), "--seed", str(_SEED), "--generation-deterministic"),
        *("--warnings", "off", "--no-color", "--no-shrink"),
    ]
    # Its own folder for what it writes, and nothing of ours in its environment.
    environ = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    process = await asyncio.create_subprocess_exec(*command, stdout=PIPE, stderr=STDOUT, cwd=tmp_path, env=environ)
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()

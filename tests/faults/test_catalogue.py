"""Every known bug has tests by name, and the tests exist."""

import ast
from pathlib import Path

import pytest

from tests.faults.catalogue import PEERS_BUGS, ROW_SECURITY

TESTS = Path(__file__).parents[1]
CATALOGUE = {**PEERS_BUGS, **ROW_SECURITY}
NAMED = {test for tests in CATALOGUE.values() for test in tests}


@pytest.mark.parametrize("bug", CATALOGUE)
def test_every_known_bug_has_a_test(bug: str) -> None:
    assert CATALOGUE[bug]


@pytest.mark.parametrize("named", sorted(NAMED))
def test_every_named_test_exists_and_is_not_skipped(named: str) -> None:
    path, _, name = named.partition("::")
    functions = {
        node.name: node
        for node in ast.parse((TESTS / path).read_text()).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    marks = [ast.unparse(decorator) for decorator in functions[name].decorator_list]
    assert not [mark for mark in marks if "skip" in mark or "xfail" in mark]


def test_every_test_of_this_folder_is_named() -> None:
    """A test here that nobody finds in the catalogue belongs somewhere else."""
    written = {
        f"faults/{path.name}::{node.name}"
        for path in Path(__file__).parent.glob("test_*.py")
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
    }
    own = {test for test in written if test.startswith("faults/test_catalogue.py")}
    assert written - own - NAMED == {"faults/test_source.py::test_the_sources_are_found"}

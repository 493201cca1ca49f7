"""Secrets are drawn once, kept over restarts, closed to others, and never replaced."""

import json
from pathlib import Path

import msgspec
import pytest

from chappe_kernel.api_keys import is_well_formed
from chappe_local.credentials import load_secrets
from chappe_store.audit_log.signing import parse_signing_keys


def test_secrets_are_kept_and_closed_to_others(tmp_path: Path) -> None:
    path = tmp_path / "secrets.json"
    first = load_secrets(path, ["fr-par", "de-fra"])
    assert load_secrets(path, ["fr-par", "de-fra"]) == first
    assert path.stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["secrets.json"]
    keys = [first.api_key, first.fr_only_api_key, first.management_key, first.probe_key]
    assert all(is_well_formed(key) for key in keys)
    assert len(set(keys)) == 4
    assert set(parse_signing_keys(first.audit_keys).public) == {1}
    assert len({first.cells["fr-par"].credential, first.cells["de-fra"].credential}) == 2


def test_new_region_gets_secrets_and_the_old_ones_stay(tmp_path: Path) -> None:
    path = tmp_path / "secrets.json"
    before = load_secrets(path, ["fr-par"])
    after = load_secrets(path, ["fr-par", "it-mil"])
    assert after.cells["fr-par"] == before.cells["fr-par"]
    assert after.api_key == before.api_key
    assert "it-mil" in after.cells


def test_file_that_is_not_ours_is_refused_and_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "secrets.json"
    path.write_text("not json")
    with pytest.raises(json.JSONDecodeError):
        load_secrets(path, ["fr-par"])
    assert path.read_text() == "not json"
    load_secrets(tmp_path / "other.json", ["fr-par"])
    wrong = json.loads((tmp_path / "other.json").read_text()) | {"api_key": 7}
    path.write_text(json.dumps(wrong))
    with pytest.raises(msgspec.ValidationError):
        load_secrets(path, ["fr-par"])

"""Only one runner per data folder."""

import os
from pathlib import Path
from unittest.mock import Mock

import pytest

from scripts.lib.project import StackError
from scripts.running.claim import Claim, recorded

PLACES = {"chat-service": {"host": "127.0.0.1", "ports": {"HTTP": 1}, "is_sidecar": False}}


def test_a_second_runner_is_refused_and_told_of_the_first(tmp_path: Path) -> None:
    with Claim(tmp_path) as first:
        first.record(PLACES)
        with pytest.raises(StackError, match=rf"process {os.getpid()}: end that \(kill"):
            Claim(tmp_path)
        assert recorded(tmp_path)["services"] == PLACES
    with Claim(tmp_path):
        pass


def test_no_runner_is_reported_when_none_runs(tmp_path: Path) -> None:
    assert recorded(tmp_path / "none") == {}
    with Claim(tmp_path / "new/folder"):
        pass
    assert recorded(tmp_path / "new/folder") == {}


@pytest.mark.parametrize(
    "word",
    # No process has an id above the maximum.
    [f'{{"pid": {2**22 + 1}, "services": {{}}}}', '{"pid": "1"}', f'{{"pid": {2**64}}}', "[1]", ""],
)
def test_a_stale_or_invalid_claim_file_is_ignored(tmp_path: Path, word: str) -> None:
    (tmp_path / "run.lock").write_text(word)
    assert recorded(tmp_path) == {}
    with Claim(tmp_path):
        pass


def test_a_full_disk_is_a_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.pwrite", Mock(side_effect=OSError(28, "No space left on device")))
    with pytest.raises(StackError, match="No space left on device"):
        Claim(tmp_path)


@pytest.mark.parametrize("kind", ["a file", "under a file"])
def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path, kind: str) -> None:
    (tmp_path / "file").touch()
    folder = tmp_path / "file" / ("" if kind == "a file" else "more")
    with pytest.raises(StackError, match=r"DACA_DATA_DIR: .*file.* can't be used"):
        Claim(folder)

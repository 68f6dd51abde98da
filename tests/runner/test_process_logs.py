"""Logs of running processes are bounded, and recreated if they are deleted."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import pytest

from scripts.lib.logs import Log

LINE = b"0123456789\n"


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path / "logs/a.log", max_bytes=10 * len(LINE))


def test_a_long_log_is_rotated_and_loses_nothing(log: Log) -> None:
    file = log.open()
    for _ in range(11):
        file.write(LINE)
    log.tidy()
    file.write(b"and on\n")
    older = log.path.with_name("a.log.1")
    assert older.read_bytes() == LINE * 11
    assert log.path.read_bytes() == b"and on\n"
    log.close()


def test_a_process_that_writes_during_a_rotation_loses_nothing_of_before(log: Log) -> None:
    file = log.open()
    before = LINE * 500_000
    file.write(before)
    begun, done = Event(), Event()

    def write() -> None:
        while not done.is_set():
            file.write(b"meanwhile\n")
            begun.set()

    with ThreadPoolExecutor(1) as threads:
        writing = threads.submit(write)
        assert begun.wait(10)
        log.tidy()
        done.set()
    writing.result()
    older = log.path.with_name("a.log.1").read_bytes()
    assert older.startswith(before)
    assert older.removeprefix(before).startswith(b"meanwhile\n")
    log.close()


def test_however_long_it_runs_there_is_one_older_file_of_a_bounded_size(log: Log) -> None:
    file = log.open()
    for number in range(100):
        file.write(LINE)
        log.tidy()
        assert log.path.stat().st_size <= 11 * len(LINE), number
    assert sorted(path.name for path in log.path.parent.iterdir()) == ["a.log", "a.log.1"]
    log.close()


@pytest.mark.parametrize("lost", ["the folder", "the file"])
def test_lines_written_after_a_log_was_removed_are_kept(log: Log, lost: str) -> None:
    file = log.open()
    file.write(b"before\n")
    if lost == "the folder":
        shutil.rmtree(log.path.parent)
    else:
        log.path.unlink()
    for line in (b"one\n", b"two\n"):
        file.write(line)
        log.tidy()
    assert log.path.read_bytes() == b"before\none\ntwo\n"
    for _ in range(11):
        file.write(LINE)
        log.tidy()
    assert log.path.with_name("a.log.1").exists()
    log.close()


def test_a_removed_log_is_recreated_for_the_next_process(log: Log) -> None:
    log.open()
    log.close()
    shutil.rmtree(log.path.parent)
    log.open().write(LINE)
    assert log.end(5) == ["0123456789"]
    log.close()


def test_a_new_stack_renames_the_previous_log(log: Log) -> None:
    log.begin()
    for line in (b"first\n", b"second\n"):
        log.begin()
        log.open().write(line)
        log.close()
    assert log.end(5) == ["second"]
    assert log.path.with_name("a.log.1").read_text() == "first\n"


def test_without_a_log_there_are_no_last_lines(log: Log) -> None:
    assert log.end(5) == []
    log.tidy()

"""Connections need open files. The allowed number is used, and no chat begins without one."""

import errno
import subprocess
import sys

import pytest
from httpx2 import Request
from openai import APIConnectionError

from chat_service.access.admission import most_chats
from chat_service.hosts.refusals import domain_error
from daca_shared.domain import Unavailable

_START = """
import resource, sys
from daca_shared.service import main
from daca_shared.settings import ServiceSettings
class Settings(ServiceSettings):
    database_file = "x"
async def run(settings):
    print(resource.getrlimit(resource.RLIMIT_NOFILE))
main("test", Settings, run)
"""
_ADMIT = "from chat_service.access.admission import most_chats; print(most_chats(2000))"


def python(code: str, soft: int, hard: int) -> tuple[str, str]:
    """The output of a program that runs with these limits. A shell sets them: Python would have to
    fork for it, and gRPC's threads in this process may not survive that."""
    limited = f'ulimit -Sn {soft}; ulimit -Hn {hard}; exec "$0" -c "$1"'
    command = ["sh", "-c", limited, sys.executable, code]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    return run.stdout.strip(), run.stderr


def test_a_service_raises_its_limit_on_open_files_to_the_maximum() -> None:
    assert python(_START, 64, 256)[0] == "(256, 256)"


@pytest.mark.parametrize(("files", "chats"), [(64, 8), (256, 104), (32, 1)])
def test_there_are_no_more_chats_than_open_files_for_them(files: int, chats: int) -> None:
    told, log = python(_ADMIT, files, files)
    assert told == str(chats)
    assert f"only {chats} chats at once: `ulimit -n` allows {files} open files" in log


def test_with_enough_open_files_the_wanted_number_of_chats_is_allowed() -> None:
    assert most_chats(3) == 3


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE])
def test_a_chat_that_finds_no_open_file_is_told_to_try_again(number: int) -> None:
    bare = OSError(number, "Too many open files: /etc/hosts")
    wrapped = APIConnectionError(request=Request("POST", "http://model"))
    wrapped.__cause__ = bare
    for error in (bare, wrapped):
        told = domain_error(error)
        assert isinstance(told, Unavailable)
        assert (told.message, told.retry_after_s) == (
            "The service has too many files open; try again", 1,
        )  # fmt: skip

"""Every command in the documents is typed as printed, and its output compared with theirs."""

import asyncio
import shutil
import sys
from pathlib import Path

import pytest

from lab.postgres import Cluster, run_sql
from scripts.lib.project import ROOT
from tests.docs.session import environment, run_step
from tests.docs.terminal import Machine, NoMachine, machine
from tests.docs.text import Block, left_out, sessions

SESSIONS = sessions()
LEFT_OUT = left_out()


# Each command has its own limit, and some sessions have many.
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", SESSIONS)
def test_typed_commands_print_what_the_documents_show(
    name: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if name == "zipkin" and shutil.which("java") is None:
        pytest.skip("NO JAVA: ZIPKIN IS NOT TRIED")
    surprises: list[str] = []
    try:
        with machine(tmp_path / "layer", environment(tmp_path)) as ours:
            if name == "postgresql":
                bring_postgres(ours, request.getfixturevalue("postgres"))
            for step in SESSIONS[name]:
                surprises += run_step(step, ours)
    except NoMachine as reason:
        pytest.skip(f"NO COMMAND OF THE DOCUMENTS WAS TRIED: {reason}")
    except TimeoutError as late:
        surprises.append(str(late))
    assert not surprises, "\n\n".join(surprises)


@pytest.mark.parametrize("block", LEFT_OUT, ids=[block.where for block in LEFT_OUT])
def test_blocks_that_cannot_be_run_here_are_skipped(block: Block) -> None:
    pytest.skip(f"{block.where}: {block.argument}")


def bring_postgres(ours: Machine, cluster: Cluster) -> None:
    """Serve PostgreSQL at localhost:5432, with the database daca of a user daca."""
    database = asyncio.run(cluster.new_database())
    asyncio.run(run_sql(database, "CREATE ROLE daca LOGIN"))
    asyncio.run(run_sql(database, "CREATE DATABASE daca OWNER daca"))
    folder = database.get_secret_value().partition("host=")[2]
    ours.start(
        sys.executable, str(ROOT / "tests/docs/forward.py"), "5432", f"{folder}/.s.PGSQL.5432"
    )

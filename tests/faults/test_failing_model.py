"""Retries don't overload a failing model server further."""

import asyncio
from collections import Counter
from pathlib import Path
from uuid import uuid4

import pytest

from lab.connection import Connection, chat_request
from lab.stack import running_stack
from tests.fault_table import FULL, Report
from tests.faults.conftest import counts_are_turns, database, stored_messages
from tests.model_server import Fault, model_server

_REQUESTS = 1000 if FULL else 304
_CLIENTS = 8


async def test_a_failing_model_costs_few_attempts(
    tmp_path: Path, report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers: Counter[int] = Counter()
    user_id = f"ailing-{uuid4().hex}"

    async def send(url: str) -> None:
        connection = await Connection.open(url)
        for _ in range(_REQUESTS // _CLIENTS):
            answer = await connection.send(chat_request(user_id, str(uuid4())), 30)
            answers[answer.status] += 1
            assert b"host's own words" not in answer.body
        connection.close()

    async with model_server() as model:
        monkeypatch.setenv("OPENAI_BASE_URL", model.url)
        monkeypatch.setenv("CHAT_MODEL", "m")
        async with running_stack(tmp_path, None) as system:
            model.faults = [Fault(status=503)] * (3 * _REQUESTS)
            await asyncio.gather(*(send(system.url) for _ in range(_CLIENTS)))
            attempts = len(model.requests)
            model.faults.clear()
            after, _ = await system.chat_with(user_id)
            same = await counts_are_turns(system, user_id)
            stored = stored_messages(database(system, system.analytics, "analytics.db"), user_id)
    figures = {"requests": answers.total(), "answers": dict(answers), "after": after}
    figures |= {"attempts a request": attempts / answers.total(), "stored": stored}
    bar = {
        "at most 1.1 attempts a request": attempts <= 1.1 * answers.total(),
        "503": set(answers) == {503},
        "only what was answered is kept and counts": same and stored == 1,
        "serves after": after == 200,
    }
    report("failing model", figures, bar)

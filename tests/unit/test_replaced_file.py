"""Chat's file is replaced by an earlier copy while the service runs: each turn in the copy is
counted, also those that are being sent or answered at that moment."""

import asyncio
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from chat_service.chat.messages import Answer
from daca_shared.domain import Unavailable
from tests.chats import id_of, message, send
from tests.fakes import ChatStores, FakeRecorder, opened_stores


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "chat.db"


def copied(path: Path) -> Path:
    copy = path.with_name("copy.db")
    with closing(sqlite3.connect(path)) as file:
        file.execute("VACUUM INTO ?", (str(copy),))
    return copy


async def take(stores: ChatStores, copy: Path, path: Path) -> None:
    await asyncio.to_thread(copy.replace, path)
    with pytest.raises(Unavailable, match="replaced"):
        await stores.database.check()
    await stores.database.check()


@pytest.mark.parametrize("is_refused", [False, True])
async def test_a_batch_that_ends_after_the_replacement_removes_no_later_message(
    path: Path, *, is_refused: bool
) -> None:
    recorder, earlier, later = FakeRecorder(), message("alice"), message("bob")
    recorder.refused = {id_of(earlier)} if is_refused else set()
    async with opened_stores(path, recorder) as stores:
        copy = copied(path)
        await send(stores, earlier)
        recorder.open.clear()
        batch = asyncio.create_task(stores.outbox.send_batch())
        await take(stores, copy, path)
        await send(stores, later)
        recorder.open.set()
        await batch
        assert await stores.outbox.send_batch() == 1
        assert recorder.ids[-1] == id_of(later)


@pytest.mark.parametrize("is_stopped", [False, True])
async def test_a_message_that_the_copy_lacks_is_sent_again_with_its_new_answer(
    path: Path, *, is_stopped: bool
) -> None:
    recorder, sent = FakeRecorder(), message()
    async with opened_stores(path, recorder) as stores:
        copy = copied(path)
        await send(stores, sent)
        await stores.outbox.send_batch()
        known = await stores.turns.find(sent.user_id, sent.message_id)
        assert known
        await take(stores, copy, path)
        await stores.turns.keep(replace(known, answer=Answer("anew"), stopped=is_stopped))
        await stores.outbox.send_batch()
        assert recorder.ids == [id_of(sent), id_of(sent)]

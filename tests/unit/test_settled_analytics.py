"""What analytics says of a user, once it has counted what the user has sent."""

import pytest

from chat_service.chat.ports import ChatMessage
from chat_service.outbox.analytics import SettledAnalytics
from daca_shared.domain import TimedOut
from lab.postgres import Place
from tests.fakes import FakeAnalytics, FakeOutbox, FakeRecorder, running_outbox


class CountingAnalytics(FakeAnalytics):
    """Knows what a recorder was told."""

    def __init__(self, recorder: FakeRecorder) -> None:
        super().__init__()
        self._recorder = recorder

    async def message_count(self, user_id: str, *, timeout_s: float) -> int:
        return sum(entry.user_id == user_id for entry in self._recorder.recorded)


async def test_it_knows_what_was_sent_a_moment_ago(place: Place) -> None:
    recorder = FakeRecorder()
    async with running_outbox(place, recorder) as outbox:
        settled = SettledAnalytics(CountingAnalytics(recorder), outbox)
        for sent in range(1, 4):
            async with outbox.accept(ChatMessage(user_id="alice", text="hi")):
                pass
            assert await settled.message_count("alice", timeout_s=5) == 2 * sent - 1
            async with outbox.accept(ChatMessage(user_id="alice", text="hi")):
                pass
            assert (await settled.activity("alice", timeout_s=5))["2026-01-02"] == 2 * sent


async def test_it_does_not_wait_for_ever() -> None:
    outbox = FakeOutbox()
    outbox.settles = False
    with pytest.raises(TimedOut):
        await SettledAnalytics(FakeAnalytics(), outbox).message_count("alice", timeout_s=0.05)


async def test_after_its_patience_it_says_what_is_counted() -> None:
    outbox = FakeOutbox()
    outbox.settles = False
    settled = SettledAnalytics(FakeAnalytics(), outbox, patience_s=0.01)
    assert await settled.message_count("alice", timeout_s=5) == 5

"""The tables of turns and conversations."""

import json
from dataclasses import asdict, dataclass, replace
from uuid import UUID

from chat_service.chat.messages import Answer, ConversationKey, ToolCall, Turn
from chat_service.outbox.outbox import Outbox
from chat_service.turns import history
from chat_service.turns.history import MessagesQuery, Page, PageQuery, PastConversation
from chat_service.turns.leases import TurnLocks
from daca_shared.storage.database import Database, Row, Statements

MAX_TURNS = 20
"""How many turns of a conversation the model is shown: the latest."""

_TITLE_LENGTH = 60
_NEWEST = 2**63 - 1

_SELECT = """
SELECT seq, user_id, session_id, message_id, prompt, reply, steps, stopped, message_count, model,
    end_time
FROM chat.turns
"""
_FIND = f"{_SELECT} WHERE user_id = $1 AND message_id = $2"
_LATEST = f"""{_SELECT}
WHERE user_id = $1 AND session_id = $2 AND seq < $3 ORDER BY seq DESC LIMIT $4"""
_MESSAGES = f"""{_SELECT}
WHERE user_id = $1 AND session_id = $2 AND seq > $3 ORDER BY seq LIMIT $4"""
_CONVERSATIONS = """
SELECT last_seq, session_id, title, update_time, turn_count FROM chat.conversations
WHERE user_id = $1 AND last_seq < $2 ORDER BY last_seq DESC LIMIT $3
"""
# A stopped turn is replaced when its message is sent again; a finished one stays.
_KEEP = """
INSERT INTO chat.turns AS known
    (user_id, session_id, message_id, prompt, reply, steps, stopped, message_count, model, end_time)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
ON CONFLICT (user_id, message_id) DO UPDATE SET
    prompt = excluded.prompt, reply = excluded.reply, steps = excluded.steps,
    stopped = excluded.stopped, message_count = excluded.message_count, model = excluded.model,
    end_time = excluded.end_time
    WHERE known.stopped AND known.session_id = excluded.session_id
RETURNING seq
"""
_LIST = """
INSERT INTO chat.conversations AS known
    (user_id, session_id, title, update_time, turn_count, last_seq)
VALUES ($1, $2, $3, $4, 1, $5)
ON CONFLICT (user_id, session_id) DO UPDATE SET
    update_time = excluded.update_time,
    turn_count = known.turn_count + CASE WHEN excluded.last_seq > known.last_seq THEN 1 ELSE 0 END,
    last_seq = CASE WHEN excluded.last_seq > known.last_seq
        THEN excluded.last_seq ELSE known.last_seq END
"""


@dataclass(eq=False)
class TurnStore:
    """`chat_service.chat.ports.Turns`, and what a user may look back at."""

    database: Database
    outbox: Outbox
    locks: TurnLocks

    async def find(self, user_id: str, message_id: UUID) -> Turn | None:
        rows = await self.database.read(_FIND, user_id, message_id)
        return self._turn(rows[0]) if rows else None

    async def latest(self, key: ConversationKey, *, before: Turn | None = None) -> list[Turn]:
        end = before.seq if before else _NEWEST
        rows = await self.database.read(_LATEST, key.user_id, key.session_id, end, MAX_TURNS)
        return [self._turn(row) for row in reversed(rows)]

    async def keep(self, turn: Turn) -> Turn:
        add_message = self.outbox.adding(turn)

        async def keep_and_send(statements: Statements) -> int | None:
            key, answer = turn.conversation, turn.answer
            await self.locks.confirm(key, statements)
            steps = json.dumps([asdict(call) for call in answer.tool_calls])
            kept = await statements.fetch(
                _KEEP, key.user_id, key.session_id, turn.message_id, turn.prompt, answer.text,
                steps, turn.stopped, turn.message_count, turn.model, turn.end_time,
            )  # fmt: skip
            if not kept:
                return None
            ((seq,),) = kept
            title = _title(turn.prompt)
            await statements.fetch(_LIST, key.user_id, key.session_id, title, turn.end_time, seq)
            if not turn.seq:  # else it was kept before, and its message counts already
                await add_message(statements)
            return int(seq)

        seq = await self.database.write(keep_and_send)
        if seq is None:
            finished = await self.find(turn.conversation.user_id, turn.message_id)
            return finished or turn
        self.outbox.send_soon()
        return replace(turn, seq=seq)

    async def conversations(self, query: PageQuery) -> Page[PastConversation]:
        """The user's conversations, the latest first. Raises `InvalidInput`, `Unavailable`."""
        asked = query.user_id, query.behind(first=_NEWEST), query.limit + 1
        rows = await self.database.read(_CONVERSATIONS, *asked)
        found = [
            PastConversation(seq, session_id, title, self.database.time(time), count)
            for seq, session_id, title, time, count in rows
        ]
        return history.page_of(found, query.limit)

    async def messages(self, query: MessagesQuery) -> Page[Turn]:
        """The conversation's messages, the oldest first; none if the user has no such
        conversation. Raises `InvalidInput`, `Unavailable`."""
        asked = query.user_id, query.session_id, query.behind(first=0), query.limit + 1
        found = [self._turn(row) for row in await self.database.read(_MESSAGES, *asked)]
        return history.page_of_turns(found, query.limit)

    def _turn(self, row: Row) -> Turn:
        seq, user_id, session_id, message_id, prompt, reply, steps, stopped, count, model, end = row
        answer = Answer(reply, tuple(ToolCall(**call) for call in json.loads(steps)))
        key, time = ConversationKey(user_id, session_id), self.database.time(end)
        return Turn(key, message_id, prompt, answer, bool(stopped), count, model, time, seq)


def _title(prompt: str) -> str:
    text = " ".join(prompt.split())
    if len(text) <= _TITLE_LENGTH:
        return text
    text = text[: _TITLE_LENGTH - 1]
    # Whole words, unless there is only one.
    return (text.rpartition(" ")[0] or text) + "…"

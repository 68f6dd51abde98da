"""The tables of turns and conversations."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from uuid import UUID

from chat_service.chat.messages import Answer, ConversationKey, ToolCall, Turn
from chat_service.outbox.outbox import Outbox
from chat_service.turns import history
from chat_service.turns.history import ConversationsQuery, MessagesQuery, Page, PastConversation
from chat_service.turns.leases import TurnLocks
from daca_shared.domain import NotFound
from daca_shared.storage.database import Database, Row, Statements

MAX_TURNS = 20
"""How many of a conversation's latest turns the model is shown."""

_TITLE_LENGTH = 60
# How many turns are read at a time to fill a page, which has room for only one of the longest.
_CHUNK = 10
_NEWEST = 2**63 - 1

_SELECT = """
SELECT seq, user_id, session_id, message_id, prompt, reply, steps, stopped, message_count, model,
    end_time
FROM chat.turns"""
_FIND = f"{_SELECT} WHERE user_id = $1 AND message_id = $2"
_LATEST = f"""{_SELECT}
WHERE user_id = $1 AND session_id = $2 AND seq < $3 ORDER BY seq DESC LIMIT $4"""
_MESSAGES = f"""{_SELECT}
WHERE user_id = $1 AND session_id = $2 AND seq > $3 ORDER BY seq LIMIT $4"""
_CONVERSATIONS = """
SELECT last_seq, session_id, title, update_time, turn_count FROM chat.conversations
WHERE user_id = $1 AND last_seq < $2 %s ORDER BY last_seq DESC LIMIT $3"""
_HAS_WORD = """AND (strpos(lower(title), lower(${0})) > 0 OR EXISTS (
    SELECT seq FROM chat.turns
    WHERE turns.user_id = conversations.user_id AND turns.session_id = conversations.session_id
        AND (strpos(lower(prompt), lower(${0})) > 0 OR strpos(lower(reply), lower(${0})) > 0)
))"""
_RENAME = """
UPDATE chat.conversations SET title = $3 WHERE user_id = $1 AND session_id = $2
RETURNING last_seq, session_id, title, update_time, turn_count"""
_DELETE = "DELETE FROM chat.conversations WHERE user_id = $1 AND session_id = $2 RETURNING last_seq"
_DELETE_TURNS = "DELETE FROM chat.turns WHERE user_id = $1 AND session_id = $2"
_PROMPT = "SELECT prompt FROM chat.turns WHERE user_id = $1 AND message_id = $2"
# A finished turn is replaced only by whoever has read it ($11: its `seq`). A stopped one is always
# replaced, but stays where it is, even if the new turn is for another conversation.
_KEEP = """
INSERT INTO chat.turns AS known
    (user_id, session_id, message_id, prompt, reply, steps, stopped, message_count, model, end_time)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
ON CONFLICT (user_id, message_id) DO UPDATE SET
    prompt = excluded.prompt, reply = excluded.reply, steps = excluded.steps,
    stopped = excluded.stopped, message_count = excluded.message_count, model = excluded.model,
    end_time = excluded.end_time
    WHERE known.stopped OR known.seq = $11
RETURNING seq, session_id"""
# The title follows the first message, whose text `regenerate` may have changed, unless the user has
# renamed the conversation: it is replaced only if it is the one ($6) made of the old text.
_KEEP_CONVERSATION = """
INSERT INTO chat.conversations AS known
    (user_id, session_id, title, update_time, turn_count, last_seq)
VALUES ($1, $2, $3, $4, 1, $5)
ON CONFLICT (user_id, session_id) DO UPDATE SET
    title = CASE WHEN known.title = $6 AND NOT EXISTS (
        SELECT seq FROM chat.turns WHERE turns.user_id = known.user_id
            AND turns.session_id = known.session_id AND turns.seq < excluded.last_seq
    ) THEN excluded.title ELSE known.title END,
    update_time = excluded.update_time,
    turn_count = known.turn_count + CASE WHEN excluded.last_seq > known.last_seq THEN 1 ELSE 0 END,
    last_seq = CASE WHEN excluded.last_seq > known.last_seq
        THEN excluded.last_seq ELSE known.last_seq END"""


@dataclass(eq=False)
class TurnStore:
    """Implements `chat_service.chat.ports.Turns`, and the lists of a user's conversations."""

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

        async def keep_and_send(statements: Statements) -> Turn | None:
            key, answer = turn.conversation, turn.answer
            await self.locks.confirm(key, statements)
            title = old_title = _title(turn.prompt)
            # A turn that was read may be missing, once an earlier copy has replaced the database.
            by_id = key.user_id, turn.message_id
            known = await statements.fetch(_PROMPT, *by_id) if turn.seq else ()
            if known:
                old_title = _title(known[0][0])
            steps = json.dumps([asdict(call) for call in answer.tool_calls])
            kept = await statements.fetch(
                _KEEP, key.user_id, key.session_id, turn.message_id, turn.prompt, answer.text,
                steps, turn.stopped, turn.message_count, turn.model, turn.end_time, turn.seq,
            )  # fmt: skip
            if not kept:
                return None
            ((seq, session_id),) = kept
            shown = title, turn.end_time, seq, old_title
            await statements.fetch(_KEEP_CONVERSATION, key.user_id, session_id, *shown)
            if not known:  # otherwise its message is counted already
                await add_message(statements)
            return replace(turn, conversation=ConversationKey(key.user_id, session_id), seq=seq)

        kept = await self.database.write(keep_and_send)
        if kept is None:
            return await self.find(turn.conversation.user_id, turn.message_id) or turn
        self.outbox.send_soon()
        return kept

    async def conversations(self, query: ConversationsQuery) -> Page[PastConversation]:
        """The page, latest messages first. Raises `InvalidInput`, `Unavailable`."""
        words = list(dict.fromkeys(query.filter.split()))
        statement = _CONVERSATIONS % "".join(map(_HAS_WORD.format, range(4, 4 + len(words))))
        arguments = query.user_id, query.after_seq(default=_NEWEST), query.limit + 1, *words
        search = partial(self.database.search, query.user_id) if words else self.database.read
        found = [self._listed(row) for row in await search(statement, *arguments)]
        return history.page_of(found, query.limit)

    async def rename(self, key: ConversationKey, title: str) -> PastConversation:
        """Returns the conversation with its new title. Raises `NotFound`, `Unavailable`."""
        values = key.user_id, key.session_id, title
        rows = await self.database.write(lambda statements: statements.fetch(_RENAME, *values))
        return self._listed(_only(rows))

    async def delete(self, key: ConversationKey) -> None:
        async def delete(statements: Statements) -> Sequence[Row]:
            await self.locks.confirm(key, statements)
            await statements.fetch(_DELETE_TURNS, key.user_id, key.session_id)
            return await statements.fetch(_DELETE, key.user_id, key.session_id)

        try:
            rows = await self.database.write(delete)
        finally:
            # Even if the caller leaves meanwhile, or tries again to delete what is already gone.
            await self.database.purge()
        _only(rows)

    async def messages(self, query: MessagesQuery) -> Page[Turn]:
        """The page, oldest first; empty if unknown. Raises `InvalidInput`, `Unavailable`."""
        found: list[Turn] = []
        after = query.after_seq(default=0)
        while True:
            arguments = query.user_id, query.session_id, after, _CHUNK
            chunk = [self._turn(row) for row in await self.database.read(_MESSAGES, *arguments)]
            found += chunk
            page = history.page_of_turns(found, query.limit)
            if page.next_page_token or len(chunk) < _CHUNK:
                return page
            after = chunk[-1].seq

    def _listed(self, row: Row) -> PastConversation:
        seq, session_id, title, time, count = row
        return PastConversation(seq, session_id, title, self.database.time(time), count)

    def _turn(self, row: Row) -> Turn:
        seq, user_id, session_id, message_id, prompt, reply, steps, stopped, count, model, end = row
        answer = Answer(reply, tuple(ToolCall(**call) for call in json.loads(steps)))
        key, time = ConversationKey(user_id, session_id), self.database.time(end)
        return Turn(key, message_id, prompt, answer, bool(stopped), count, model, time, seq)


def _only(rows: Sequence[Row]) -> Row:
    if not rows:
        raise NotFound("Conversation not found", code="CONVERSATION_NOT_FOUND")
    return rows[0]


def _title(prompt: str) -> str:
    text = " ".join(prompt.split())
    if len(text) <= _TITLE_LENGTH:
        return text
    text = text[: _TITLE_LENGTH - 1]
    # Cut between words, unless there is only one.
    return (text.rpartition(" ")[0] or text) + "…"

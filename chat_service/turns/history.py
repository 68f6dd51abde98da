"""What a user may look back at: their conversations, and the messages of one, in pages
(https://google.aip.dev/158)."""

import base64
import binascii
from dataclasses import dataclass
from datetime import datetime
from itertools import accumulate
from typing import Annotated, Protocol
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from chat_service.turns.memory import ConversationKey
from daca_shared.domain import InvalidInput, UserId

DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE = 50, 200
# gRPC clients take 4 MiB at once.
_MAX_PAGE_BYTES = 3 * 2**20


class PageQuery(BaseModel):
    """Which page of a user's list."""

    model_config = ConfigDict(frozen=True)

    user_id: UserId
    page_size: Annotated[int, Field(ge=0, le=2**31 - 1)] = 0
    """How many at the most; 0 leaves it to us, and more than we allow is cut."""
    page_token: Annotated[str, Field(max_length=64)] = ""
    """The previous page's `next_page_token`; empty for the first."""

    @property
    def limit(self) -> int:
        """How many rows the page holds at the most."""
        return min(self.page_size or DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE)


class MessagesQuery(PageQuery):
    """Which page of the messages of one conversation."""

    session_id: UUID


@dataclass(frozen=True)
class PastConversation:
    """One conversation in a user's list."""

    seq: int
    session_id: UUID
    title: str
    """The first words of its first message."""
    update_time: datetime
    turn_count: int


@dataclass(frozen=True)
class PastMessage:
    """One message of the user, and the reply to it."""

    seq: int
    message_id: UUID
    text: str
    reply: str
    time: datetime
    """When the reply was complete, or stopped."""
    stopped: bool
    """Whether the user stopped the reply before its end."""


@dataclass(frozen=True)
class Page[T: (PastConversation, PastMessage)]:
    """One page, and the token of the next; empty if this is the last."""

    items: list[T]
    next_page_token: str


class Archive(Protocol):
    """Where conversations are kept. Each list starts behind the row numbered `after`."""

    async def conversations(
        self, user_id: str, *, before: int | None, limit: int
    ) -> list[PastConversation]:
        """The latest first."""
        ...

    async def messages(self, key: ConversationKey, *, after: int, limit: int) -> list[PastMessage]:
        """The oldest first."""
        ...


class History:
    """Lists what was said, to the user who said it."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive

    async def conversations(self, query: PageQuery) -> Page[PastConversation]:
        """The user's conversations, the latest first. Raises `InvalidInput`, `Unavailable`."""
        before = _decode(query.page_token) if query.page_token else None
        found = await self._archive.conversations(
            query.user_id, before=before, limit=query.limit + 1
        )
        return _page(found, query.limit)

    async def messages(self, query: MessagesQuery) -> Page[PastMessage]:
        """The conversation's messages, the oldest first; none if the user has no such
        conversation. Raises `InvalidInput`, `Unavailable`."""
        key = ConversationKey(query.user_id, query.session_id)
        after = _decode(query.page_token) if query.page_token else 0
        found = await self._archive.messages(key, after=after, limit=query.limit + 1)
        return _page(found, min(query.limit, _fitting(found)))


def _fitting(found: list[PastMessage]) -> int:
    """How many of them go into one page; at least one."""
    sizes = accumulate(len((message.text + message.reply).encode()) for message in found)
    return max(1, sum(size <= _MAX_PAGE_BYTES for size in sizes))


def _page[T: (PastConversation, PastMessage)](found: list[T], limit: int) -> Page[T]:
    # One row more than the page holds tells whether there is another page.
    items = found[:limit]
    return Page(items, _encode(items[-1].seq) if len(found) > limit else "")


def _encode(seq: int) -> str:
    return base64.urlsafe_b64encode(b"%d" % seq).decode()


def _decode(token: str) -> int:
    try:
        seq = int(base64.b64decode(token.encode(), altchars=b"-_", validate=True))
    except (ValueError, binascii.Error):
        seq = -1
    if not 0 <= seq < 2**63:
        raise InvalidInput.field("page_token", "is not one that this list has returned")
    return seq

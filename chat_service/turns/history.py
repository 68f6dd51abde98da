"""A user's conversations, and the messages of one, in pages (https://google.aip.dev/158)."""

from dataclasses import dataclass
from datetime import datetime
from itertools import accumulate
from typing import Annotated
from uuid import UUID

from pydantic import BaseModel, Field
from pydantic.json_schema import SkipJsonSchema

from chat_service.chat.messages import ConversationKey, Title, Turn
from daca_shared.domain import InvalidInput, UserId

DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE = 50, 200
# How many bytes of text a page may have. Its HTML may have twenty times as many.
_MAX_PAGE_BYTES = 2**18

Filter = Annotated[str, Field(max_length=200)]
"""Words. Conversations match if each word is in their title or in one of their texts."""


class PageQuery(BaseModel, frozen=True):
    """Which page of a user's list."""

    user_id: UserId
    page_size: Annotated[int, Field(ge=0, le=2**31 - 1)] = 0
    """How many to return: 0 stands for 50, and more than 200 for 200."""
    page_token: Annotated[str, Field(max_length=64)] = ""
    """The previous page's `next_page_token`; empty for the first."""

    @property
    def limit(self) -> int:
        return min(self.page_size or DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE)

    def after_seq(self, *, default: int) -> int:
        """The `seq` after which the page begins; `default` for the first. Raises `InvalidInput`."""
        token = self.page_token or str(default)
        if not (token.isascii() and token.isdecimal()) or int(token) >= 2**63:
            raise InvalidInput.field("page_token", "is not one that this list has returned")
        return int(token)


class ConversationsQuery(PageQuery):
    filter: Filter = ""


class MessagesQuery(PageQuery):
    session_id: UUID

    @property
    def key(self) -> ConversationKey:
        return ConversationKey(self.user_id, self.session_id)


class Renaming(BaseModel):
    """What a conversation is to be called."""

    title: Title


@dataclass(frozen=True)
class PastConversation:
    """One conversation in a user's list."""

    seq: Annotated[int, Field(exclude=True), SkipJsonSchema()]
    """Its place among all conversations, for page tokens; not shown to users."""
    session_id: UUID
    title: str
    """The title that the user gave it, or the first words of its first message."""
    update_time: datetime
    turn_count: int


@dataclass(frozen=True)
class Page[T: (PastConversation, Turn)]:
    """One page, and the next page's token, which is empty on the last page."""

    items: list[T]
    next_page_token: str


def page_of[T: (PastConversation, Turn)](found: list[T], limit: int) -> Page[T]:
    """A page of up to `limit` items. `found` has one more if the page isn't the last."""
    items = found[:limit]
    return Page(items, str(items[-1].seq) if len(found) > limit else "")


def page_of_turns(found: list[Turn], limit: int) -> Page[Turn]:
    """The same, with fewer turns if their texts are too long for one page."""
    totals = accumulate(len((turn.prompt + turn.answer.text).encode()) for turn in found)
    fitting = [total for total in totals if total <= _MAX_PAGE_BYTES]
    return page_of(found, min(limit, max(1, len(fitting))))

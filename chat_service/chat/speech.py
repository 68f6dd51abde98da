"""What a model says in one turn, made into a text that can be kept and shown."""

import re

from chat_service.chat.messages import Say
from daca_shared.domain import Failed

# JSON can hold halves of surrogate pairs. The lower halves from U+DC80 to U+DCFF also stand for
# bytes that are no UTF-8 (PEP 383). What comes next may make a character of those at the end.
_HALF = re.compile("[\ud800-\udfff]")
_BYTES = re.compile("[\udc80-\udcff]+")
_OPEN_END = re.compile("(?:[\ud800-\udbff]|[\udc80-\udcff]+)\\Z")


def clean(text: str) -> str:
    """`text` with halves of characters put together. A lone one, or NUL, becomes U+FFFD."""
    text = text.replace("\0", "\ufffd")
    try:
        text.encode()
    except UnicodeEncodeError:
        text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
        text = _BYTES.sub(
            lambda m: m[0].encode(errors="surrogateescape").decode(errors="replace"), text
        )
        text = _HALF.sub("\ufffd", text)
    return text


class Speech:
    """The text of a turn's messages: before each call of a tool, and after the last. Each piece is
    passed to `say` once it is whole. Raises `Failed` when there are more than `max_length`
    characters, those of calls of tools included."""

    def __init__(self, max_length: int, say: Say | None) -> None:
        self.text = ""
        self.say = say
        self._max_length = self._left = max_length
        self._held = ""
        self._begun = False

    def add(self, piece: str) -> None:
        """The next piece of a message."""
        piece = self._held + piece
        end = _OPEN_END.search(piece)
        self._held = end[0] if end else ""
        self._tell(clean(piece.removesuffix(self._held)))

    def end_message(self) -> None:
        self._tell(clean(self._held))
        self._held, self._begun = "", False

    def count(self, length: int) -> None:
        """So many characters have come."""
        self._left -= length
        if self._left < 0:
            raise Failed(f"The model's reply is longer than {self._max_length} characters")

    def _tell(self, text: str) -> None:
        if not self._begun:
            text = text.lstrip()
            if text and self.text:
                text = f"\n\n{text}"
        if text:
            self._begun = True
            self.count(len(text))
            self.text += text
            if self.say:
                self.say(text)

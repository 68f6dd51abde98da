"""What a model says in one turn, turned into text that can be kept and shown."""

import re

from chat_service.chat.messages import Say
from daca_shared.domain import Failed

# JSON can hold lone halves of surrogate pairs. U+DC80 to U+DCFF also stand for bytes that are not
# UTF-8 (PEP 383). Those at a piece's end may form a character with the next piece.
_HALF = re.compile("[\ud800-\udc7f\udd00-\udfff]")
# Matches only from a run's first byte: else the time would grow with the square of its length.
_OPEN_END = re.compile("(?:[\ud800-\udbff]|(?<![\udc80-\udcff])[\udc80-\udcff]++)\\Z")


def clean(text: str) -> str:
    """`text` with split characters joined again. A lone half, or NUL, becomes U+FFFD."""
    text = text.replace("\0", "\ufffd")
    try:
        text.encode()
    except UnicodeEncodeError:
        text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
        text = _HALF.sub("\ufffd", text)  # what is left after the pairs were joined
        text = text.encode(errors="surrogateescape").decode(errors="replace")  # joins the bytes
    return text


class Speech:
    """The text of a turn: all that the model says before, between and after tool calls. Each piece
    is passed to `say` once no character in it is split. Raises `Failed` beyond `max_length`
    characters, those of tool calls included."""

    def __init__(self, max_length: int, say: Say | None) -> None:
        self.text = ""
        self.say = say
        self._max_length = self._left = max_length
        self._held = ""  # the end of a piece that may be half a character
        self._begun = False  # whether the current message has any text yet

    def add(self, piece: str) -> None:
        piece = self._held + piece
        end = _OPEN_END.search(piece)
        self._held = end[0] if end else ""
        self._tell(clean(piece.removesuffix(self._held)))

    def end_message(self) -> None:
        self._tell(clean(self._held))
        self._held, self._begun = "", False

    def count(self, length: int) -> None:
        """Count `length` more characters. Raises `Failed` beyond the limit."""
        self._left -= length
        if self._left < 0:
            limit = self._max_length
            raise Failed(f"The reply, with its tool calls, is longer than {limit} characters")

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

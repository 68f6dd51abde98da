"""Replies' Markdown as HTML that is safe to put into a page, whoever wrote it."""

import asyncio
import re
from collections.abc import Sequence
from html import escape
from itertools import accumulate

import nh3
from pyromark import Markdown, Options

# So much is rendered before a thread could have begun to.
_AT_ONCE = 2_000
# What grows or nests beyond these is made to; the sanitizer's time is the square of the depth.
_MAX_GROWTH, _MAX_LENGTH, _MAX_DEPTH = 20, 256_000, 100

_TAGS = {
    "a", "blockquote", "br", "code", "del", "em", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "input",
    "li", "ol", "p", "pre", "strong", "table", "tbody", "td", "th", "thead", "tr", "ul",
}  # fmt: skip
_NESTING = re.compile(r"<(/?)(?:blockquote|ul|ol|em|strong|del)\b")
_is_language = re.compile(r"language-[\w.+#-]{1,40}").fullmatch


def _allowed(tag: str, name: str, value: str) -> str | None:
    # Styles of the page's own would lie open to who writes a reply.
    return None if name == "class" and not _is_language(value) else value


_markdown = Markdown(
    options=Options.ENABLE_TABLES | Options.ENABLE_STRIKETHROUGH | Options.ENABLE_TASKLISTS
)
# No images: an image's address would tell its server who reads.
_cleaner = nh3.Cleaner(
    tags=_TAGS,
    attributes={"a": {"href", "title"}, "code": {"class"}, "ol": {"start"}, "input": {"checked"}},
    # The boxes of a list of tasks, and no other fields.
    set_tag_attribute_values={"input": {"type": "checkbox", "disabled": ""}},
    attribute_filter=_allowed,
    url_schemes={"http", "https", "mailto"},
    link_rel="noopener noreferrer nofollow",
)


async def rendered(texts: Sequence[str]) -> list[str]:
    """Each text as HTML with no scripts, styles, images or forms in it."""
    if sum(map(len, texts)) <= _AT_ONCE:
        return [*map(render, texts)]
    # Parser and sanitizer let go of the interpreter.
    return await asyncio.to_thread(lambda: [*map(render, texts)])


def render(text: str) -> str:
    """The same for one; as it was written if its HTML would be out of all proportion."""
    html = _markdown.html(_with_tags_as_text(text[:_MAX_LENGTH]))
    largest = min(_MAX_GROWTH * len(text) + 1000, _MAX_LENGTH)
    if max(len(text), len(html)) > largest or _is_deep(html):
        return f"<pre>{escape(text, quote=False)}</pre>\n"
    return _cleaner.clean(html)


def _is_deep(html: str) -> bool:
    steps = (-1 if end else 1 for end in _NESTING.findall(html))
    return max(accumulate(steps), default=0) > _MAX_DEPTH


def _with_tags_as_text(text: str) -> str:
    """Raw HTML is shown, as it may be meant (`List<String>`); the sanitizer would drop it."""
    if "<" not in text:
        return text
    source, done, parts = text.encode(), 0, []
    for event, span in _markdown.events_with_range(text):
        if "Html" in event or "InlineHtml" in event:
            parts.append(source[done : span["start"]])
            parts.append(source[span["start"] : span["end"]].replace(b"<", b"&lt;"))
            done = span["end"]
    return b"".join([*parts, source[done:]]).decode()

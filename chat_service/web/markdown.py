"""Renders the Markdown of replies as HTML that is safe in a page, whoever wrote it."""

import asyncio
import re
from collections.abc import AsyncGenerator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from html import escape
from itertools import accumulate
from typing import Any
from urllib.parse import quote

import nh3
from pyromark import Markdown, Options, Theme

# Up to so many characters, rendering is faster than handing it to a thread.
_AT_ONCE = 2_000
# Beyond these limits a text isn't rendered: sanitizing time grows with the square of depth.
_MAX_GROWTH, _MAX_LENGTH, _MAX_DEPTH = 20, 256_000, 100
# Highlighting takes 1 to 15 µs a character, but in some languages time grows with the cube of a
# line's length: half a second for eight lines of 500. The cubes of all coloured lines of a page may
# add up to this at most, as those of 3,000 lines of 100 do.
_MAX_COLOURED, _MAX_LINE, _MAX_CUBES = 20_000, 500, 3 * 10**9
_cubes_left = ContextVar("_cubes_left", default=_MAX_CUBES)

_TAGS = {
    "a", "blockquote", "br", "code", "del", "em", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "input",
    "li", "ol", "p", "pre", "span", "strong", "table", "tbody", "td", "th", "thead", "tr", "ul",
}  # fmt: skip
_NESTING = re.compile(r"<(/?)(?:blockquote|ul|ol|em|strong|del)\b")
# A Base16 theme has one colour for each kind of token, which lets us turn colours into classes.
_KINDS = {
    "65737e": "comment", "b48ead": "keyword", "a3be8c": "string", "d08770": "number",
    "8fa1b3": "function", "ebcb8b": "type", "bf616a": "name", "96b5b4": "builtin",
}  # fmt: skip
_is_class = re.compile(rf"language-[\w.+#-]{{1,40}}|{'|'.join(_KINDS.values())}").fullmatch
_ALIGNED = re.compile(r'<(t[hd]) style="text-align: (\w+)">')
_IMAGE = re.compile(r'(<a [^>]*>)?<img src="([^"]*)" alt="([^"]*)"[^>]*>')
# Raw HTML is shown as text, like `List<String>`; the sanitizer would drop it. While Markdown is
# parsed, this character replaces each `<`, except in addresses and where the text escapes it itself
# (`\<`, but not `\\<`). In code, an escape of our own would be visible. Like `<` it is punctuation,
# which matters beside `**`. It is part of SignWriting, and no text has it.
_LESS = "\U0001da8b"
_ADDRESS = r"https?:|mailto:|[\w.+-]+@[\w.-]+>"
_tag_openings = re.compile(rf"<(?<!(?<!\\)\\<)(?!{_ADDRESS})", re.IGNORECASE)
_with_tags_as_text = partial(_tag_openings.sub, _LESS)
_CODE = re.compile("<code.*?</code>", re.DOTALL)
# While it is the last, a line that may become a list's item turns the one above into a heading.
_underline = re.compile(r"(?<=[^\n])\n[ \t>]*(?:-+|=+)[ \t]*\Z")
# Line breaks are the exception, as Markdown's tables have no other way to write them.
_BREAK = re.compile(f"{_LESS}br */?&gt;", re.IGNORECASE)


def _coloured(language: str | None, code: str) -> str | None:
    """A block of code with classes for its tokens; None for one that isn't highlighted."""
    code = code.replace(_LESS, "<")
    lengths = [*map(len, code.splitlines())]
    left = _cubes_left.get() - sum(length**3 for length in lengths)
    if not language or len(code) > _MAX_COLOURED or max(lengths, default=0) > _MAX_LINE or left < 0:
        return None
    _cubes_left.set(left)
    fence = "~" * (code.count("~") + 3)
    html = _theme.html(f"{fence} {language}\n{code}")
    html = html.removeprefix('<pre style="background-color:#2b303b;">\n').removesuffix("</pre>\n")
    html = re.sub(r'<span style="color:#c0c5ce;">([^<]*)</span>', r"\1", html)
    for colour, kind in _KINDS.items():
        html = re.sub(rf'<span style="[^"]*color:#{colour};">', f'<span class="{kind}">', html)
    if len(html) > _MAX_GROWTH // 2 * len(code):
        return None
    return f'<pre><code class="language-{escape(language)}">{html}</code></pre>\n'


_theme = Markdown(highlight=Theme.BASE16_OCEAN_DARK)
_markdown = Markdown(
    options=Options.ENABLE_TABLES | Options.ENABLE_STRIKETHROUGH | Options.ENABLE_TASKLISTS,
    highlight=_coloured,
)
# Other classes would let the writer of a reply use the page's own styles, and other addresses would
# lead into our own site.
_are_allowed = {"class": _is_class, "href": re.compile("https?://|mailto:", re.IGNORECASE).match}


def _attribute(_: str, name: str, value: str) -> str | None:
    is_allowed = _are_allowed.get(name)
    return value if is_allowed is None or is_allowed(value) else None


# Images become links: loading an image would tell its server who reads the reply.
_cleaner = nh3.Cleaner(
    tags=_TAGS,
    attributes={"a": {"href", "title"}, "input": {"checked"}, "ol": {"start"}}
    | {tag: {"class"} for tag in ("code", "span")}
    | {tag: {"align"} for tag in ("td", "th")},
    # The checkboxes of task lists, and no other inputs.
    set_tag_attribute_values={"input": {"type": "checkbox", "disabled": "", "aria-label": "Done"}},
    attribute_filter=_attribute,
    url_schemes={"http", "https", "mailto"},
    link_rel="noopener noreferrer nofollow",
)


async def rendered(texts: Sequence[str]) -> list[str]:
    """Each text as HTML with no scripts, styles, images or forms in it."""
    _cubes_left.set(_MAX_CUBES)
    # Code goes to a thread: the first in a language may take 0.3 s, to load its syntax.
    if sum(map(len, texts)) <= _AT_ONCE and not any("```" in t or "~~~" in t for t in texts):
        return [*map(render, texts)]
    # Parser and sanitizer release the GIL.
    return await asyncio.to_thread(lambda: [*map(render, texts)])


def render(text: str) -> str:
    """The same for one text, which stays plain text if its HTML would be excessive."""
    source = _with_tags_as_text(text[:_MAX_LENGTH])
    html = _markdown.html(source)
    largest = min(_MAX_GROWTH * len(text) + 1000, _MAX_LENGTH)
    steps = (-1 if tag[1] else 1 for tag in _NESTING.finditer(html))
    if max(len(text), len(html)) > largest or max(accumulate(steps), default=0) > _MAX_DEPTH:
        return f"<pre>{escape(text, quote=False)}</pre>\n"
    html = _IMAGE.sub(lambda i: i[1] + i[3] if i[1] else f'<a href="{i[2]}">🖼 {i[3]}</a>', html)
    if _LESS in source:
        html = html.replace(quote(_LESS), "%3C")
        html = _CODE.sub(lambda code: code[0].replace(_LESS, "&lt;"), html)
        html = _BREAK.sub("<br>", html).replace(_LESS, "&lt;")
    return _cleaner.clean(_ALIGNED.sub(r'<\1 align="\2">', html))


@dataclass(frozen=True)
class Html:
    """Part of a reply's HTML: new `finished` blocks, and the last, `open` block as it is now."""

    finished: str
    open: str


async def with_html(
    events: AsyncGenerator[Any], *, pace_s: float = 0.1, share: float = 0.1, most: float = 40_000
) -> AsyncGenerator[Any]:
    """`events`, and every `pace_s` the HTML of their text so far; less often if rendering takes
    more than this `share` of the time, or if more than `most` characters a second would be sent: a
    long block is sent anew each time, which on a slow network takes longer than the reply."""
    loop = asyncio.get_running_loop()
    text, is_new, due = "", False, 0.0
    coming: asyncio.Future[Any] | None = None
    try:
        while True:
            coming = coming or asyncio.ensure_future(anext(events, None))
            await asyncio.wait([coming], timeout=due - loop.time() if is_new else None)
            if coming.done():
                event, coming = coming.result(), None
                if event is None:
                    return
                yield event
                if isinstance(event, str):
                    if not text and len(event) > _AT_ONCE:
                        due = loop.time() + pace_s  # a kept reply, whose end comes next
                    text, is_new = text + event, True
            began = loop.time()
            if is_new and began >= due:
                # Once a block's first line is complete, new text can change only the last block.
                lines = text[: text.rfind("\n") + 1]
                is_long = len(lines) > _AT_ONCE
                start = (
                    await asyncio.to_thread(_last_block, lines) if is_long else _last_block(lines)
                )
                finished, html = await rendered([text[:start], _underline.sub("", text[start:])])
                yield Html(finished, html)
                text, is_new = text[start:], False
                took_s = loop.time() - began
                due = loop.time() + max(pace_s, took_s / share, len(html) / most)
    finally:
        if coming:
            coming.cancel()
            await asyncio.wait([coming])
        await events.aclose()


def _last_block(lines: str) -> int:
    """The index at which the last block begins."""
    shown = _with_tags_as_text(lines)
    start = end = 0
    for _, span in _markdown.events_with_range(shown):
        if span["start"] >= end:
            start, end = span["start"], span["end"]
    earlier = lines.split("\n")[: shown.encode()[:start].count(b"\n")]
    return sum(len(line) + 1 for line in earlier)

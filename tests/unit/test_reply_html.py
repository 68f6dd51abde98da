"""The HTML made from the Markdown of replies, complete and streamed."""

import asyncio
import re
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from chat_service.web.markdown import Html, render, rendered, with_html

REPLY = """# Title

A paragraph
of two lines with https://example.com/a_b.

1. one

2. two
   - inner

| left | right |
|:-----|------:|
| 1 | 2 |

```python
def f():

    return "1"
```

> a quote

The end"""


def test_cells_are_aligned_as_the_table_says() -> None:
    html = render('| a | b | c |\n|:-:|--:|---|\n| 1 | <td style="text-align: left"> | 3 |')
    assert '<th align="center">a</th><th align="right">b</th><th>c</th>' in html
    assert "style=" not in re.sub("&lt;.*?&gt;", "", html)


def test_code_is_coloured_by_classes_alone() -> None:
    html = render('```python\ndef f(): return "<b>" + 1  # why\n~~~~\n```')
    assert '<code class="language-python"><span class="keyword">def </span>' in html
    assert '<span class="comment"># why' in html
    assert "style" not in html
    assert 'f(): return "<b>" + 1  # why\n~~~~\n' in re.sub("<[^>]*>", "", html).replace(
        "&lt;", "<"
    ).replace("&gt;", ">")


@pytest.mark.parametrize(
    "code",
    ["a = 1\n" * 3400, "a = " + "1" * 500, "a = " + "1," * 200],
    ids=["long", "of long lines", "of many parts"],
)
def test_code_that_would_cost_too_much_has_no_colours(code: str) -> None:
    assert "<span" in render("```c++\na = 1\n```")
    assert "<span" not in render(f"```c++\n{code}\n```")


async def test_code_on_a_page_is_coloured_until_that_could_take_too_long() -> None:
    page = ['```c++\na = "' + "x" * 490 + '"\n```'] * 50
    first, *_, last = await rendered(page)
    assert "<span" in first
    assert "<span" not in last
    assert "<span" in (await rendered(page[:1]))[0]


class NotingThreads(ThreadPoolExecutor):
    """Notes how many jobs it has been given."""

    jobs = 0

    def submit(self, work: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        self.jobs += 1
        return super().submit(work, *args, **kwargs)


async def test_code_is_not_coloured_on_the_event_loop() -> None:
    threads = NotingThreads(1)
    asyncio.get_running_loop().set_default_executor(threads)
    for text, jobs in (("Hi", 0), ("```json\n{}\n```", 1)):
        assert await rendered([text]) == [render(text)]
        assert threads.jobs == jobs


async def pieces(text: str, size: int, pause_s: float = 0) -> AsyncGenerator[str]:
    for start in range(0, len(text), size):
        yield text[start : start + size]
        await asyncio.sleep(pause_s)


async def shown(events: AsyncGenerator[Any]) -> list[str]:
    """What a reader sees after each update."""
    views, finished = [], ""
    async for event in events:
        if isinstance(event, Html):
            finished += event.finished
            views.append(finished + event.open)
    return views


@pytest.mark.parametrize("size", [1, 7])
async def test_a_reader_sees_all_that_came_so_far(size: int) -> None:
    views = await shown(with_html(pieces(REPLY, size), pace_s=0, share=1e9, most=1e9))
    texts = [REPLY[: end + size] for end in range(0, len(REPLY), size)]
    # Not the last line, as long as it may underline the one above, or begin a list.
    texts = [re.sub(r"(?<=[^\n])\n *-+ *\Z", "", text) for text in texts]
    assert views == [render(text) for text in texts]


@pytest.mark.parametrize("size", [1, 3])
async def test_a_list_that_begins_makes_no_heading_of_the_line_above(size: int) -> None:
    reply = "1. **Install it**:\n   - Run it\n\nPros:\n- fast\n\nA heading\n---------\n\nText\n"
    views = await shown(with_html(pieces(reply, size), pace_s=0, share=1e9, most=1e9))
    assert not [view for view in views if "<h2>Install" in view or "<h2>Pros" in view]
    assert views[-1] == render(reply)
    assert "<h2>A heading</h2>" in views[-1]


async def test_raw_html_has_the_same_blocks_while_it_comes() -> None:
    lines = ("In the head:", "<style>", "p { color: red }", "</style>", "", "and <div>, below:")
    reply = "\n".join([*lines, "<div>hi</div>", "", "```html", "<style> & <b>", "```", "All."])
    assert (await shown(with_html(pieces(reply, 5), pace_s=0, share=1e9, most=1e9)))[-1] == render(
        reply
    )


async def test_finished_blocks_are_sent_once() -> None:
    events = with_html(pieces("A paragraph of some words.\n\n" * 400, 50, 0.001), pace_s=0.01)
    sent = [event async for event in events if isinstance(event, Html)]
    assert 2 < len(sent) < 220  # and not with each of the 224 pieces
    assert sum(event.finished.count("<p>") for event in sent) > 100
    assert all(event.open.count("<p>") <= 2 for event in sent)


async def test_a_long_block_which_is_sent_anew_each_time_is_sent_less_often() -> None:
    code = "```\n" + "some line of code\n" * 500
    events = with_html(pieces(code, 50, 0.005), pace_s=0.01)
    sent = [event async for event in events if isinstance(event, Html)]
    assert sum(len(event.finished + event.open) for event in sent) < 15 * len(code)


async def test_text_before_a_models_pause_is_shown() -> None:
    async def hesitating() -> AsyncGenerator[str]:
        for word in ("one", " two", " three"):
            yield word
        await asyncio.Event().wait()

    events = with_html(hesitating())
    async for event in events:
        if isinstance(event, Html) and "three" in event.open:
            break
    await events.aclose()


async def test_leaving_closes_the_source() -> None:
    closed = asyncio.Event()

    async def endless() -> AsyncGenerator[str]:
        try:
            yield "one"
            await asyncio.Event().wait()
        finally:
            closed.set()

    events = with_html(endless())
    assert await anext(events) == "one"
    assert isinstance(await anext(events), Html)
    waiting = asyncio.ensure_future(anext(events))
    await asyncio.sleep(0.01)
    waiting.cancel()
    await asyncio.wait([waiting])
    assert closed.is_set()

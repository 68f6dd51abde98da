"""The page reads server-sent events exactly as specified."""

import pytest
from playwright.async_api import Page, expect

from tests.browser.conftest import OpenPage
from tests.browser.people import replies, send_and_wait
from tests.browser.sites import Site

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.mark.parametrize("text", ["a\u2028b\u2029c\x85d\x0be", "a\rb\r\nc"], ids=ascii)
async def test_no_character_breaks_the_stream(text: str, site: Site, open_site: OpenPage) -> None:
    site.agent.script = [text, 0.2, " and more"]
    page = await open_site()
    await send_and_wait(page, "Write")
    await expect(replies(page)).to_contain_text("and more")
    await expect(page.get_by_role("alert")).to_be_hidden()


async def parsed(page: Page, pieces: list[str]) -> list[list[str]]:
    """The events that the page's own parser reads from a body that comes in these pieces."""
    found: list[list[str]] = await page.evaluate(
        """async pieces => {
            const { events } = await import(new URL("sse.js", location));
            const encoder = new TextEncoder();
            const bytes = pieces.map(piece => encoder.encode(piece));
            const body = new ReadableStream({ start(to) {
                for (const one of bytes) to.enqueue(one);
                to.close();
            } });
            const found = [];
            for await (const { event, data } of events(body)) found.push([event, data]);
            return found;
        }""",
        pieces,
    )
    return found


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n"], ids=ascii)
@pytest.mark.parametrize("size", [1, 2, 5, 1000])
async def test_streams_are_parsed_as_specified(end: str, size: int, scripts: Page) -> None:
    lines = [": hi", "event: a", "data: é\u2028x", "data:y", "data:  z", "", "data", "id: 1", "",
             "event: none", "", "data: last", "", "data: cut off"]  # fmt: skip
    text = end.join(lines)
    pieces = [text[start : start + size] for start in range(0, len(text), size)]
    assert await parsed(scripts, pieces) == [
        ["a", "é\u2028x\ny\n z"],
        ["message", ""],
        ["message", "last"],
    ]

"""How replies are shown, while they are streamed and afterwards."""

import asyncio
import re

import pytest
from playwright.async_api import expect

from tests.browser.conftest import OpenPage
from tests.browser.people import button, message_box, past, progress, replies, send, send_and_wait
from tests.browser.sites import Site

pytestmark = pytest.mark.asyncio(loop_scope="session")

REPLY = """## A title

A paragraph, and
its second line. See https://example.com/a_b.

1. one
2. two

- [x] done

| Transport | Streaming |
|-----------|----------:|
| gRPC | yes |

```python
def f(): return 1
```
"""
WIDE = "\n".join(["|" + f"{cell}|" * 20 for cell in ("a wide column", "---", "Streaming")])
LONG = "\n\n".join(["A paragraph of a reply, long enough to fill some lines of the log. " * 5] * 30)


async def test_a_reply_reads_like_a_document(site: Site, open_site: OpenPage) -> None:
    site.agent.script = [REPLY]
    page = await open_site()
    await send_and_wait(page, "Write")
    reply = replies(page)
    sizes = await reply.evaluate(
        """reply => Object.fromEntries(["h2", "p", "td", "li"].map(name => {
            const style = getComputedStyle(reply.querySelector(`.said ${name}`));
            return [name, [parseFloat(style.fontSize), parseFloat(style.marginBottom)]];
        }))"""
    )
    assert sizes["h2"][0] > 1.2 * sizes["p"][0]
    assert sizes["p"][1] > 8
    await expect(reply.get_by_role("paragraph").first).to_have_text(
        re.compile(r"and\s+its second"), use_inner_text=True
    )
    assert "and\nits second" in await reply.inner_text()
    await expect(reply.get_by_role("link")).to_have_attribute("href", "https://example.com/a_b")
    await expect(reply.get_by_role("checkbox")).to_be_checked()
    await expect(reply.get_by_role("checkbox")).to_be_disabled()
    await expect(reply.get_by_role("cell", name="yes")).to_have_css("text-align", "right")
    await expect(reply.get_by_text("python", exact=True)).to_be_visible()
    colours = [
        await part.first.evaluate("part => getComputedStyle(part).color")
        for part in map(reply.locator, (".keyword", ".number", "code"))
    ]
    assert len(set(colours)) == 3


async def test_code_can_be_copied(site: Site, open_site: OpenPage) -> None:
    site.agent.script = [REPLY]
    page = await open_site(permissions=["clipboard-read", "clipboard-write"])
    await send_and_wait(page, "Write")
    await button(page, "Copy code").click()
    await expect(button(page, "Copied")).to_be_visible()
    assert await page.evaluate("navigator.clipboard.readText()") == "def f(): return 1\n"
    await button(page, "Copy").click()
    await expect(button(page, "Copy code")).to_be_visible()
    assert await page.evaluate("navigator.clipboard.readText()") == REPLY


async def test_a_wide_table_scrolls_and_its_words_stay_whole(
    site: Site, open_site: OpenPage
) -> None:
    site.agent.script = [WIDE]
    page = await open_site(viewport={"width": 360, "height": 640})
    await send_and_wait(page, "Write")
    table = page.get_by_role("group", name="Table")
    assert await table.evaluate("table => table.scrollWidth > 2 * table.clientWidth")
    cell = table.get_by_role("cell").first
    line = await cell.evaluate("cell => parseFloat(getComputedStyle(cell).lineHeight)")
    box = await cell.bounding_box()
    assert box
    assert box["height"] < 2 * line
    assert await page.evaluate("document.documentElement.scrollWidth") <= 360
    await table.focus()
    await page.keyboard.press("ArrowRight")
    await expect(table).to_be_focused()


async def test_an_address_in_a_table_stays_in_its_cell(site: Site, open_site: OpenPage) -> None:
    site.agent.script = [f"| Where | What |\n|---|---|\n| https://example.com/{'x' * 80} | a |"]
    page = await open_site()
    await send_and_wait(page, "Write")
    cell = page.get_by_role("cell").first
    assert await cell.evaluate("cell => cell.scrollWidth <= cell.clientWidth")


async def test_markdown_is_rendered_while_it_is_streamed(site: Site, open_site: OpenPage) -> None:
    go = asyncio.Event()
    site.agent.script = ["## A title\n\nSome **bo", "ld** text", go, " and\nmore"]
    page = await open_site()
    await send(page, "Write")
    await expect(replies(page).get_by_role("heading", name="A title")).to_be_visible()
    await expect(replies(page).get_by_role("strong")).to_have_text("bold")
    await expect(replies(page)).to_have_attribute("aria-busy", "true")
    heading = await replies(page).get_by_role("heading").element_handle()
    go.set()
    await expect(progress(page)).to_have_text("Reply complete.")
    assert "text and\nmore" in await replies(page).inner_text()
    # Existing elements stay, and so does a selection in them.
    assert await heading.evaluate("heading => heading.isConnected")


async def test_the_scroll_position_stays_when_a_reply_completes(
    site: Site, open_site: OpenPage
) -> None:
    go = asyncio.Event()
    site.agent.script = [LONG, go, "\n\nThe end."]
    page = await open_site()
    await send(page, "Write")
    await expect(replies(page)).to_contain_text("fill some lines")
    log = page.get_by_role("log")
    await expect(button(page, "↓ Newest")).to_be_hidden()
    await log.evaluate("log => { log.scrollTop = 300 }")
    read = replies(page).get_by_role("paragraph").nth(5)
    place = await read.bounding_box()
    await expect(button(page, "↓ Newest")).to_be_visible()
    go.set()
    await expect(progress(page)).to_have_text("Reply complete.")
    await expect(button(page, "Regenerate")).to_be_visible()
    assert await read.bounding_box() == place
    await button(page, "↓ Newest").click()
    await expect(button(page, "↓ Newest")).to_be_hidden()
    await expect(replies(page).get_by_text("The end.")).to_be_in_viewport()


@pytest.mark.parametrize("box_grows_by_itself", [True, False])
async def test_a_reply_is_followed_while_its_reader_writes(
    site: Site, open_site: OpenPage, box_grows_by_itself: bool
) -> None:
    """Firefox before 152 and Safari before 26.2 don't know `field-sizing`."""
    page, more, end = await open_site(), asyncio.Event(), asyncio.Event()
    site.agent.script = [LONG, more, "\n\nMore.", end, "\n\nThe end."]
    if not box_grows_by_itself:
        await page.add_init_script("CSS.supports = () => false")
        await page.reload()
        await message_box(page).evaluate("box => { box.style.fieldSizing = 'fixed' }")
    await send(page, "Write")
    await expect(replies(page)).to_contain_text("fill some lines")
    await message_box(page).fill("one\ntwo\nthree\nfour\nfive")
    more.set()
    await expect(replies(page).get_by_text("More.")).to_be_in_viewport()
    await message_box(page).press("End")
    await page.keyboard.type("!")
    await page.set_viewport_size({"width": 800, "height": 400})
    end.set()
    await expect(replies(page).get_by_text("The end.")).to_be_in_viewport()
    await expect(button(page, "↓ Newest")).to_be_hidden()


async def test_each_script_has_its_own_direction(site: Site, open_site: OpenPage) -> None:
    site.agent.script = ["سلام دنیا\n\n1. پہلا\n2. دوسرا\n\nAnd English.\n\n- one"]
    page = await open_site()
    await expect(message_box(page)).to_have_css("unicode-bidi", "plaintext")
    await send_and_wait(page, "سلام")
    await expect(past(page).locator(".title")).to_have_css("direction", "rtl")
    directions = await page.evaluate(
        """() => [...document.querySelectorAll(".mine .said, .reply .said > *")].map(
            one => `${one.localName} ${getComputedStyle(one).direction}`
        )"""
    )
    assert directions == ["div rtl", "p rtl", "ol rtl", "p ltr", "ul ltr"]


async def test_a_wide_table_is_read_from_where_its_script_begins(
    site: Site, open_site: OpenPage
) -> None:
    site.agent.script = [WIDE.replace("a wide column", "پہلا ستون")]
    page = await open_site(viewport={"width": 360, "height": 640})
    await send_and_wait(page, "Write")
    await expect(page.get_by_role("columnheader").first).to_be_in_viewport()

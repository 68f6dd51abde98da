"""How the page shows the HTML of replies."""

import re

import pytest
from playwright.async_api import Page, expect

from chat_service.chat.messages import ToolCall
from chat_service.web.markdown import render
from tests.browser.conftest import OpenPage
from tests.browser.people import past, replies, send_and_wait
from tests.browser.sites import Site

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def shown(page: Page, text: str) -> str:
    """The HTML of a reply as the page shows it."""
    html: str = await page.evaluate(
        """async html => {
            const { show } = await import(new URL("markup.js", location));
            const reply = document.createElement("div");
            show(reply, 0, html);
            return reply.innerHTML;
        }""",
        render(text),
    )
    return html


async def test_line_breaks_stay(scripts: Page) -> None:
    html = await shown(scripts, "one\n*two*\nthree  \nfour\n`five`\n*six*\n\n- a\n  b")
    assert html == (
        '<p dir="auto">one<br><em>two</em><br>three<br>\nfour<br><code>five</code><br>'
        '<em>six</em></p>\n<ul dir="auto">\n<li>a<br>b</li>\n</ul>\n'
    )
    blocks = "# a\n\n- b\n  - c\n\n- d\n\n> e\n\n```\nf\ng\n```\n\n- [ ] h\n- i\n  - j"
    assert "<br>" not in await shown(scripts, blocks)


@pytest.mark.parametrize(
    ("text", "links"),
    [
        ("see https://example.com/a_b?c=d&e=f.", ["https://example.com/a_b?c=d&amp;e=f"]),
        ("(https://example.com/x_(y)), next", ["https://example.com/x_(y)"]),
        ('"https://example.com" <http://other.example>',
         ["https://example.com", "http://other.example"]),
        ("请看https://example.com/页面，谢谢。「https://例え.jp/」（http://a.example）",  # noqa: RUF001 - as they are written
         ["https://example.com/页面", "https://例え.jp/", "http://a.example"]),
        ("“https://example.com/a” «http://other.example».",
         ["https://example.com/a", "http://other.example"]),
        ("دیکھیں https://example.com/a۔ هل رأيت https://example.com/b؟ देखें https://example.com/c।",  # noqa: RUF001
         ["https://example.com/a", "https://example.com/b", "https://example.com/c"]),
        ("Https://example.com/… and so on", ["Https://example.com/"]),
        ("`https://example.com` [a](https://b.example 'https://c.example')", ["https://b.example"]),
        ("```\nhttps://example.com\n```\n\n    https://example.com", []),
        ("See www.example.com/a_(b), (www.b.example) or WWW.C.example.",
         ["http://www.example.com/a_(b)", "http://www.b.example", "http://WWW.C.example"]),
        ("javascript://example.com ftp://example.com", []),
        ("ftp://www.example.com awww.example a@www.example.com www. www...", []),
    ],
)  # fmt: skip
async def test_bare_links_are_links(text: str, links: list[str], scripts: Page) -> None:
    html = await shown(scripts, text)
    assert re.findall('href="(.*?)"', html) == links
    assert html.count('rel="noopener noreferrer nofollow"') == len(links)
    assert html.count('target="_blank"') == len(links)


SEEN = """element => {
    const text = element.firstChild;
    const at = (n) => {
        const range = new Range();
        range.setStart(text, n);
        range.setEnd(text, n + 1);
        return [range.getBoundingClientRect().left, text.data[n]];
    };
    const places = Array.from(text.data, (_, n) => at(n)).sort(([a], [b]) => a - b);
    return places.map(([, character]) => character).join("");
}"""


async def test_code_and_addresses_in_hebrew_are_seen_as_they_are_written(
    site: Site, open_site: OpenPage
) -> None:
    written = ["-rf --force", "/etc/hosts", "$HOME/x", "https://a.example/b/"]
    marked = (one if ":" in one else f"`{one}`" for one in written)
    site.agent.script = ["\n\n".join(f"כתבו {one} שם" for one in marked)]
    page = await open_site()
    await send_and_wait(page, "How?")
    parts = await replies(page).locator("code, a").all()
    assert [await part.evaluate(SEEN) for part in parts] == written


async def test_a_date_in_hebrew_does_not_change_the_number_of_messages(
    open_site: OpenPage,
) -> None:
    page = await open_site(locale="he-IL")
    await send_and_wait(page, "One")
    about = past(page).locator("small")
    await expect(about).to_contain_text("1 message")
    assert "· 1 message" in await about.evaluate(SEEN)


# How far the number of a list's last item is from the left end of the window.
BEFORE_LAST = """lists => lists.map((list) => {
    const context = document.createElement("canvas").getContext("2d");
    context.font = getComputedStyle(list).font;
    const { width } = context.measureText(`${list.start + list.children.length - 1}. `);
    return list.lastElementChild.getBoundingClientRect().left - width;
})"""


async def test_the_numbers_of_a_list_are_not_cut_off(site: Site, open_site: OpenPage) -> None:
    firsts = (99, 999, 2024, 123456789)
    site.agent.script = ["\n\nThen:\n\n".join(f"{first}. one\n1. two" for first in firsts)]
    page = await open_site(viewport={"width": 360, "height": 800})
    await send_and_wait(page, "Count")
    left = await replies(page).locator("ol").evaluate_all(BEFORE_LAST)
    assert len(left) == len(firsts)
    assert min(left) > 0


BULLETS_AND_BOXES = """tasks => tasks.map((task) => {
    const { left } = task.querySelector("input").getBoundingClientRect();
    return [getComputedStyle(task).listStyleType, left];
})"""


async def test_the_box_of_a_task_takes_the_place_of_its_bullet(
    site: Site, open_site: OpenPage
) -> None:
    site.agent.script = ["- [x] one\n- [ ] two\n\nThen:\n\n- [x] three\n\n- [ ] four"]
    page = await open_site()
    await send_and_wait(page, "Plan")
    seen = await replies(page).locator("li").evaluate_all(BULLETS_AND_BOXES)
    assert len(seen) == 4
    assert all(one == ["none", seen[0][1]] for one in seen)


async def test_the_name_of_a_tool_is_not_cut_off(site: Site, open_site: OpenPage) -> None:
    site.agent.script = [ToolCall("getTheWeatherForecastOf" * 3, "{}"), "Sun."]
    page = await open_site(viewport={"width": 360, "height": 800})
    await send_and_wait(page, "How will it be?")
    box = await page.get_by_text("Used getTheWeather").bounding_box()
    assert box
    assert box["x"] + box["width"] <= 360


async def test_an_update_of_a_reply_keeps_unchanged_elements(open_site: OpenPage) -> None:
    page = await open_site()
    kept = await page.evaluate(
        """async () => {
            const { show } = await import(new URL("markup.js", location));
            const reply = document.createElement("div");
            document.body.append(reply);
            let end = show(reply, 0, "", "<p>one</p>");
            const [first] = reply.children;
            getSelection().selectAllChildren(first);
            end = show(reply, end, "<p>one two</p>\\n", "<pre><code>a</code></pre>");
            const button = reply.querySelector("button");
            button.focus();
            end = show(reply, end, "<pre><code>a\\nb</code></pre>", "<p>last</p>");
            show(reply, 0, "<p>one two</p>\\n<pre><code>a\\nb</code></pre><p>last</p>");
            return [first.isConnected, String(getSelection()), document.activeElement === button];
        }"""
    )
    assert kept == [True, "one two", True]

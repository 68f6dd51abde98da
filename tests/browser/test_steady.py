"""What is under the pointer, selected or focused stays so, whatever comes meanwhile."""

import asyncio
import re

import pytest
from playwright.async_api import Page, Route, expect

from daca_shared.domain import Unavailable
from tests.browser.conftest import OpenPage
from tests.browser.people import (
    button,
    count,
    message_box,
    past,
    progress,
    replies,
    send,
    send_and_wait,
)
from tests.browser.sites import Site
from tests.browser.troubles import LIST, abort, look_again, once

pytestmark = pytest.mark.asyncio(loop_scope="session")

MANY = "Some words of a paragraph.\n\n" * 20
LINES = [piece for n in range(8) for piece in (f"Line {n}.\n\n", 0.1)]
SELECTED = "String(getSelection())"
RANGE_OF = """(word) => {
  const texts = document.createTreeWalker(document.getElementById("log"), NodeFilter.SHOW_TEXT);
  const range = document.createRange();
  while (texts.nextNode()) {
    const at = texts.currentNode.data.indexOf(word);
    if (at < 0) continue;
    range.setStart(texts.currentNode, at);
    range.setEnd(texts.currentNode, at + word.length);
    return range;
  }
}"""
PLACE_OF = f"""word => {{
  const {{ left, right, top, bottom }} = ({RANGE_OF})(word).getBoundingClientRect();
  return [left + 1, right - 1, (top + bottom) / 2];
}}"""
SELECT = f"""word => {{
  const {{ startContainer, startOffset, endContainer, endOffset }} = ({RANGE_OF})(word);
  getSelection().setBaseAndExtent(startContainer, startOffset, endContainer, endOffset);
}}"""
IS_SEEN = """() => {
  const { left, top, width, height } = document.activeElement.getBoundingClientRect();
  const found = document.elementFromPoint(left + width / 2, top + height / 2);
  return document.activeElement.contains(found);
}"""


async def test_a_press_on_a_button_in_a_reply_that_comes_counts(
    site: Site, open_site: OpenPage
) -> None:
    page, go = await open_site(), asyncio.Event()
    await page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    site.agent.script = [MANY + "```python\nprint(1)\n```\n\nThe last words.\n\n", go, *LINES]
    await send(page, "Write")
    await expect(button(page, "Copy code")).to_be_in_viewport()
    await button(page, "Copy code").hover()  # once the log has scrolled to its end
    await page.mouse.down()
    go.set()
    await expect(replies(page)).to_contain_text("Line 3.")
    await page.mouse.up()
    await expect(button(page, "Copied")).to_have_count(1)
    await expect(button(page, "Regenerate")).to_be_visible()
    await expect(replies(page).get_by_text("Line 7.")).to_be_in_viewport()


async def test_a_copy_is_confirmed_even_if_the_reply_then_ends(
    site: Site, open_site: OpenPage
) -> None:
    page, go = await open_site(), asyncio.Event()
    await page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    site.agent.script = ["```python\nprint(1)\n```\n\nThe end.", go]
    await send(page, "Write")
    await button(page, "Copy code").click()
    await expect(button(page, "Copied")).to_be_visible()
    go.set()
    await expect(button(page, "Regenerate")).to_be_visible()
    assert await button(page, "Copied").is_visible()
    await expect(button(page, "Copy code")).to_be_visible()


async def test_a_selection_by_mouse_does_not_run_away(site: Site, open_site: OpenPage) -> None:
    page, go, end = await open_site(), asyncio.Event(), asyncio.Event()
    site.agent.script = [
        MANY + "The words WANTED by me.\n\nOthers.\n\n",
        go,
        *LINES,
        end,
        "The end.",
    ]
    await send(page, "Write")
    await expect(replies(page).get_by_text("Others.")).to_be_in_viewport()
    left, right, middle = await page.evaluate(PLACE_OF, "WANTED")
    await page.mouse.move(left, middle)
    await page.mouse.down()
    await page.mouse.move(left + 10, middle)
    go.set()
    await expect(replies(page)).to_contain_text("Line 3.")
    await page.mouse.move(right, middle)
    await page.mouse.up()
    assert await page.evaluate(SELECTED) == "WANTED"
    end.set()
    await expect(progress(page)).to_have_text("Reply complete.")
    await expect(replies(page).get_by_text("The end.")).to_be_in_viewport()


@pytest.mark.parametrize(
    ("begun", "more"),
    [("Words to select, **bo", "ld** ones"), ("- Words to select, [a", "b](https://x.example)")],
)
async def test_a_selection_stays_when_later_words_are_formatted(
    site: Site, open_site: OpenPage, begun: str, more: str
) -> None:
    page, go = await open_site(), asyncio.Event()
    site.agent.script = [begun, go, more]
    await send(page, "Write")
    await expect(replies(page)).to_contain_text("select")
    await page.evaluate(SELECT, "select")
    go.set()
    await expect(progress(page)).to_have_text("Reply complete.")
    assert await page.evaluate(SELECTED) == "select"


async def test_a_reply_stays_where_it_is_when_it_completes(site: Site, open_site: OpenPage) -> None:
    page, go = await open_site(), asyncio.Event()
    site.agent.script = ["The beginning.\n\n", go, "The end."]
    await send(page, "Write")
    beginning = replies(page).get_by_text("The beginning.")
    await expect(beginning).to_be_visible()
    place = await beginning.bounding_box()
    go.set()
    await expect(progress(page)).to_have_text("Reply complete.")
    assert await beginning.bounding_box() == place


async def three_fruits(page: Page) -> None:
    for fruit in ("apples", "pears", "plums"):
        await button(page, "New conversation").click()
        await send_and_wait(page, fruit)
    await expect(past(page)).to_have_count(3)


async def test_the_focus_stays_in_the_list_if_that_is_refreshed_before_a_deletion(
    open_site: OpenPage,
) -> None:
    page = await open_site()
    await three_fruits(page)
    await button(page, "Delete: pears").press("Enter")
    async with page.expect_response(LIST):
        await look_again(page)
    await page.wait_for_timeout(100)
    await page.get_by_role("dialog").get_by_role("button", name="Delete").press("Enter")
    await expect(past(page)).to_have_count(2)
    await expect(past(page).filter(has_text="apples")).to_be_focused()


async def test_a_click_at_the_edge_of_a_conversation_below_an_open_title_counts(
    open_site: OpenPage,
) -> None:
    page = await open_site()
    await three_fruits(page)
    await button(page, "New conversation").click()
    await button(page, "Rename: plums").click()
    pears = past(page).filter(has_text="pears")
    await pears.click(position={"x": 60, "y": 2}, delay=100)
    await expect(pears).to_have_attribute("aria-current", "true")


async def test_with_the_drawer_open_all_that_has_the_focus_is_seen(open_site: OpenPage) -> None:
    page = await open_site(viewport={"width": 390, "height": 700})
    await button(page, "Conversations").press("Enter")
    await page.wait_for_timeout(300)  # it slides
    for _ in range(4):
        assert await page.evaluate(IS_SEEN)
        await page.keyboard.press("Shift+Tab")


async def test_a_copy_is_announced(open_site: OpenPage) -> None:
    page = await open_site()
    await page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    await send_and_wait(page, "apples")
    await button(page, "Copy").click()
    await expect(progress(page)).to_have_text("Copied")


async def test_the_limit_of_a_message_is_asked_for_until_it_is_known(open_site: OpenPage) -> None:
    page = await open_site()
    await page.route("**/limits.json*", abort)
    await page.reload()
    await expect(count(page)).to_have_text("Messages sent: 0")
    await page.unroute_all()
    await look_again(page)
    await message_box(page).fill("x" * 8001)
    await expect(page.get_by_text("1 character too many")).to_be_visible()


async def test_a_chosen_theme_is_there_before_the_page(open_site: OpenPage) -> None:
    page, go = await open_site(color_scheme="light"), asyncio.Event()
    await button(page, "Dark theme").click()
    # The modules wait for it, and Firefox, unlike Chromium, shows a page before its modules run.
    await page.route("**/platform.js", once(go, Route.continue_))
    await page.reload(wait_until="commit")
    await expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    go.set()
    await expect(button(page, "Dark theme")).to_have_attribute("aria-pressed", "true")


async def test_on_a_touch_screen_the_box_is_not_described_by_keys(open_site: OpenPage) -> None:
    page = await open_site(has_touch=True, is_mobile=True, viewport={"width": 390, "height": 700})
    await expect(message_box(page)).not_to_have_accessible_description(re.compile("Enter"))


async def test_on_a_touch_screen_answering_again_opens_no_keyboard(
    site: Site, open_site: OpenPage
) -> None:
    # A keyboard opens when the box takes the focus, and would cover the reply.
    page = await open_site(has_touch=True, is_mobile=True, viewport={"width": 390, "height": 700})
    log, alert = page.get_by_role("log"), page.get_by_role("alert")
    await message_box(page).fill("apples")
    await button(page, "Send").tap()
    await expect(replies(page)).to_contain_text("Fine.")
    await expect(log).to_be_focused()
    site.agent.failure = Unavailable("The model can't be reached")
    await button(page, "Regenerate").tap()
    await expect(alert).to_be_visible()
    await expect(log).to_be_focused()
    site.agent.failure = None
    await button(page, "Retry").tap()
    await expect(alert).to_be_hidden()
    await expect(button(page, "Regenerate")).to_be_visible()
    await expect(log).to_be_focused()

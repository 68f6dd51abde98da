"""Reading on while the page changes: slow scrolling, clicks, printing, and late answers."""

import asyncio

import pytest
from playwright.async_api import Route, expect

from tests.browser.conftest import OpenPage
from tests.browser.people import (
    button,
    count,
    past,
    progress,
    replies,
    send,
    send_and_wait,
)
from tests.browser.sites import Site
from tests.browser.troubles import LIST, chat_elsewhere

pytestmark = pytest.mark.asyncio(loop_scope="session")

TO_END = "log => log.scrollHeight - log.scrollTop - log.clientHeight"


async def test_a_reader_who_scrolls_up_slowly_is_not_taken_back(
    site: Site, open_site: OpenPage
) -> None:
    page, go = await open_site(), asyncio.Event()
    pieces = [piece for n in range(100) for piece in (f"Line {n}\n\n", 0.03)]
    site.agent.script = ["Some lines\n\n" * 50, *pieces, go]
    log = page.get_by_role("log")
    await send(page, "Write")
    await expect(replies(page)).to_contain_text("Line 1")
    assert await log.evaluate(TO_END) < 2
    await log.hover()
    for _ in range(20):
        await page.mouse.wheel(0, -3)  # as from a touchpad
        await page.wait_for_timeout(20)
    assert await log.evaluate(TO_END) >= 60
    await expect(button(page, "↓ Newest")).to_be_visible()
    # Near to the end the reader follows again.
    await page.mouse.wheel(0, 10_000)
    await expect(replies(page)).to_contain_text("Line 99")
    go.set()
    await expect(progress(page)).to_have_text("Reply complete.")
    await expect(button(page, "↓ Newest")).to_be_hidden()


async def test_a_key_that_scrolls_up_is_not_overtaken_by_the_reply(
    site: Site, open_site: OpenPage
) -> None:
    page, more, go = await open_site(), asyncio.Event(), asyncio.Event()
    site.agent.script = ["Some lines\n\n" * 50, more, "The last", go]
    log = page.get_by_role("log")
    await send(page, "Write")
    await expect(replies(page)).to_contain_text("Some lines")
    top = await log.evaluate("log => log.scrollTop")
    # Safari takes a while to the first step of its scroll, which ends if the page scrolls by then.
    await log.dispatch_event("keydown", {"key": "PageUp"})
    more.set()
    await expect(replies(page)).to_contain_text("The last")
    assert await log.evaluate("log => log.scrollTop") == top
    end = await log.evaluate("log => log.scrollHeight - log.clientHeight")
    await log.press("End")
    await expect(log).to_have_js_property("scrollTop", end)  # perhaps in several steps
    go.set()
    await expect(progress(page)).to_have_text("Reply complete.")
    assert await log.evaluate(TO_END) < 2


async def test_a_reader_who_scrolls_to_the_end_just_as_more_comes_follows(
    site: Site, open_site: OpenPage
) -> None:
    page, more, go = await open_site(), asyncio.Event(), asyncio.Event()
    site.agent.script = ["Some lines\n\n" * 50, more, "More lines\n\n" * 9 + "The last", go]
    log = page.get_by_role("log")
    await send(page, "Write")
    await expect(replies(page)).to_contain_text("Some lines")
    await log.hover()
    await page.mouse.wheel(0, -300)
    await expect(button(page, "↓ Newest")).to_be_visible()
    # A browser scrolls by itself, and tells the page later: here after the next lines have come.
    await log.evaluate("""log => {
        const end = log.scrollHeight - log.clientHeight;
        const scroll = (_, observer) => { log.scrollTop = end; observer.disconnect(); };
        new MutationObserver(scroll).observe(log, {childList: true, subtree: true});
    }""")
    more.set()
    await expect(replies(page)).to_contain_text("The last")
    await expect(button(page, "↓ Newest")).to_be_hidden()
    assert await log.evaluate(TO_END) < 2
    go.set()
    await expect(progress(page)).to_have_text("Reply complete.")


@pytest.mark.parametrize("returns", [False, True], ids=["after a title", "back at the window"])
async def test_a_click_on_a_list_that_is_refreshed_meanwhile_counts(
    open_site: OpenPage, *, returns: bool
) -> None:
    page = await open_site()
    await send_and_wait(page, "apples")
    apples = page.url
    await button(page, "New conversation").click()
    await send_and_wait(page, "pears")
    await expect(past(page)).to_have_count(2)
    other = past(page).filter(has_text="apples")
    if returns:
        await page.wait_for_timeout(3100)  # until it looks again
        looks = "row => row.onpointerdown = () => dispatchEvent(new Event('focus'))"
        await other.evaluate(looks)
    else:
        await button(page, "Rename: pears").click()
    async with page.expect_response(LIST):
        await other.click(delay=200)
    await expect(page).to_have_url(apples)
    # What came from elsewhere is listed once the button is up.
    await chat_elsewhere(page, "more apples")
    await button(page, "New conversation").click()
    await send_and_wait(page, "plums")
    await expect(other).to_contain_text("2 messages")


async def test_print_cuts_nothing_off(site: Site, open_site: OpenPage) -> None:
    wide = "|".join(f"column{n}" for n in range(14))
    table = f"|{wide}|\n|{'-|' * 14}\n|{wide}|"
    site.agent.script = [f"```\n{'x' * 400}\n```\n\n{table}"]
    page = await open_site(viewport={"width": 700, "height": 900})
    await send_and_wait(page, "Write")
    await page.emulate_media(media="print")
    for part in ("pre", "table"):
        right = "part => part.getBoundingClientRect().left + part.scrollWidth"
        assert await replies(page).locator(part).evaluate(right) <= 700


async def test_a_late_count_replaces_no_later_one(open_site: OpenPage) -> None:
    page, go, late = await open_site(), asyncio.Event(), asyncio.Event()

    async def answer_late(route: Route) -> None:
        answer = await route.fetch()
        late.set()
        await go.wait()
        await route.fulfill(response=answer)

    await send_and_wait(page, "apples")
    await expect(count(page)).to_have_text("Messages sent: 1")
    await page.route("**/analytics?*", answer_late, times=1)
    await page.wait_for_timeout(3100)  # until it looks again
    await page.evaluate("dispatchEvent(new Event('focus'))")
    await late.wait()
    await send_and_wait(page, "pears")
    await expect(count(page)).to_have_text("Messages sent: 2")
    async with page.expect_response("**/analytics?*"):
        go.set()
    await page.wait_for_timeout(500)
    await expect(count(page)).to_have_text("Messages sent: 2")


async def test_the_page_looks_again_after_the_clock_was_set_back(open_site: OpenPage) -> None:
    page = await open_site()
    await send_and_wait(page, "apples")
    await chat_elsewhere(page, "pears")
    await page.evaluate("const now = Date.now; Date.now = () => now() - 3_600_000")
    await page.evaluate("dispatchEvent(new Event('focus'))")
    await expect(replies(page)).to_have_count(2)

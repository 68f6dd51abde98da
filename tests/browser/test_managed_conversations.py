"""Users search conversations, and have messages answered again."""

import asyncio
import re

import pytest
from playwright.async_api import Page, Route, expect

from daca_shared.domain import Unavailable
from tests.browser.conftest import OpenPage
from tests.browser.people import (
    button,
    count,
    delete,
    message_box,
    past,
    progress,
    questions,
    replies,
    second_tab,
    send,
    send_and_wait,
    texts,
)
from tests.browser.sites import Site
from tests.browser.troubles import (
    CONVERSATION,
    abort,
)
from tests.fakes import eventually

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_problem_of_the_list_goes_once_it_is_loaded(fruits: Page) -> None:
    async def fail(route: Route) -> None:
        await route.fulfill(status=504, json={"detail": "The search took too long"})

    await fruits.route("**/conversations?*filter=x*", fail)
    search = fruits.get_by_label("Search conversations")
    await search.fill("x")
    await expect(fruits.get_by_role("alert")).to_contain_text("The search took too long")
    await search.fill("plums")
    await expect(past(fruits)).to_have_count(1)
    await expect(fruits.get_by_role("alert")).to_be_hidden()


async def test_a_refreshed_list_keeps_the_focus(fruits: Page) -> None:
    go = asyncio.Event()

    async def hold(route: Route) -> None:
        await go.wait()
        await route.continue_()

    await fruits.route("**/conversations?*", hold)
    await send_and_wait(fruits, "once more")
    await button(fruits, "Delete: apples").press("Enter")
    go.set()
    await expect(fruits.locator("#conversations")).to_contain_text(re.compile("· 2 .*· 2 "))
    await fruits.keyboard.press("Escape")
    await expect(button(fruits, "Delete: apples")).to_be_focused()


async def test_conversations_are_found_by_their_texts(fruits: Page) -> None:
    search = fruits.get_by_role("searchbox", name="Search conversations")
    await search.fill("plum")
    await expect(past(fruits)).to_have_count(1)
    await expect(past(fruits)).to_contain_text("apples")
    await expect(progress(fruits)).to_have_text("1 conversation found.")
    await search.fill("nothing of it")
    await expect(fruits.get_by_text("Nothing found.")).to_be_visible()
    await search.fill("")
    await expect(past(fruits)).to_have_count(2)
    await expect(search).to_be_focused()


async def test_escape_clears_the_search_also_where_the_browser_does_not(fruits: Page) -> None:
    search = fruits.get_by_role("searchbox", name="Search conversations")
    await search.fill("plum")
    await expect(past(fruits)).to_have_count(1)
    # An event of a script has no effect of the browser's own, as in Firefox.
    await search.dispatch_event("keydown", {"key": "Escape"})
    await expect(search).to_have_value("")
    await expect(past(fruits)).to_have_count(2)


async def test_the_last_reply_can_be_regenerated_in_its_place(
    site: Site, open_site: OpenPage
) -> None:
    page = await open_site()
    await send_and_wait(page, "one")
    await send_and_wait(page, "two")
    await expect(button(page, "Regenerate")).to_have_count(1)
    site.agent.script = ["Better."]
    await button(page, "Regenerate").click()
    await expect(message_box(page)).to_be_focused()
    for _ in range(2):
        await expect(replies(page)).to_have_count(2)
        await expect(replies(page).last).to_contain_text("Better.")
        await expect(replies(page).first).to_contain_text("Fine.")
        await expect(count(page)).to_have_text("Messages sent: 2")
        await page.reload()


async def test_an_edited_last_message_is_answered_in_its_place(
    site: Site, open_site: OpenPage
) -> None:
    page = await open_site()
    await send_and_wait(page, "How mny?")
    await message_box(page).fill("a draft")
    # Only the last message can be edited.
    await button(page, "Edit and resend").click()
    await expect(message_box(page)).to_be_focused()
    await expect(message_box(page)).to_have_value("How mny?")
    await message_box(page).press("Escape")
    await expect(message_box(page)).to_have_value("a draft")
    await button(page, "Edit and resend").click()
    await send_and_wait(page, "How many?")
    await expect(message_box(page)).to_have_value("a draft")
    for _ in range(2):
        await expect(questions(page)).to_have_count(1)
        await expect(questions(page)).to_contain_text("How many?")
        await expect(count(page)).to_have_text("Messages sent: 1")
        await page.reload()


async def test_a_failure_leaves_the_old_reply_and_the_new_text(
    site: Site, open_site: OpenPage
) -> None:
    page = await open_site()
    await send_and_wait(page, "How mny?")
    site.agent.failure = Unavailable("away")
    await button(page, "Edit and resend").click()
    await send(page, "How many?")
    await expect(page.get_by_role("alert")).to_have_text("away")
    for is_reloaded in (False, True):
        if is_reloaded:
            await page.reload()
        await expect(questions(page)).to_contain_text("How mny?")
        await expect(replies(page)).to_contain_text("Fine.")
        await expect(message_box(page)).to_have_value("How many?")
        await expect(page.get_by_text("Editing your message")).to_be_visible()
    site.agent.failure = None
    await send_and_wait(page, "How many?")
    await expect(questions(page)).to_have_count(1)
    await expect(questions(page)).to_contain_text("How many?")


@pytest.mark.parametrize("elsewhere", ["deletes it", "keeps it waiting"])
async def test_an_edited_message_that_the_service_does_not_have_is_sent(
    elsewhere: str, site: Site, open_site: OpenPage
) -> None:
    go = asyncio.Event()
    page = await open_site()
    await send_and_wait(page, "apples")
    other = await second_tab(page)
    await expect(replies(other)).to_contain_text("Fine.")
    if elsewhere == "deletes it":
        await button(page, "Edit and resend").click()
        await delete(other, "apples")
        await expect(questions(page)).to_have_count(0)
    else:
        site.agent.script = ["Wait", go]
        await send(other, "pears")
        await expect(replies(other).last).to_contain_text("Wait")
        await send(page, "cherries")
        await eventually(lambda: site.under_way == 2)
        await button(page, "Stop").click()
        await expect(replies(page).last).to_contain_text("Stopped.")
        # Until the service knows, it would answer the message after the other one.
        await eventually(lambda: site.under_way == 1)
        go.set()
        await expect(questions(page)).to_have_count(3)
        # The other message, which is now the last, can be edited, too.
        turn = page.locator(".turn", has_text="cherries")
        await expect(turn).to_contain_text("Not answered.")
        await turn.get_by_role("button", name="Edit and resend").click()
    site.agent.script = ["Fine."]
    await send(page, "plums")
    left = [] if elsewhere == "deletes it" else ["apples", "pears"]
    await expect(questions(page)).to_have_text(texts(*left, "plums"))
    await expect(replies(page).last).to_contain_text("Fine.")
    assert site.agent.asked[-1] == "plums"


async def test_an_error_of_regenerating_is_shown(open_site: OpenPage) -> None:
    async def refuse(route: Route) -> None:
        await route.fulfill(status=409, json={"detail": "Only the last message", "code": "x"})

    page = await open_site()
    await send_and_wait(page, "one")
    await page.route("**/chat/stream*", refuse)
    await button(page, "Regenerate").click()
    await expect(page.get_by_role("alert")).to_have_text("Only the last message")
    await expect(replies(page)).to_contain_text("Fine.")


async def test_a_retry_after_a_cut_connection_shows_the_message_once(
    site: Site, open_site: OpenPage
) -> None:
    async def cut(route: Route) -> None:
        # The server gets the whole reply, the page doesn't.
        await route.fetch()
        await route.fulfill(
            content_type="text/event-stream", body='event: delta\ndata: {"text": "Fi"}\n\n'
        )

    page = await open_site()
    await page.route("**/chat/stream*", cut)
    await page.route(CONVERSATION, abort)  # soon the page would find the reply by itself
    await send(page, "one")
    await expect(page.get_by_role("alert")).to_contain_text("The connection broke")
    await expect(replies(page)).to_contain_text("Not complete.")
    await page.unroute("**/chat/stream*")
    await button(page, "Retry").click()
    for _ in range(2):
        await expect(replies(page)).to_contain_text("Fine.")
        await expect(questions(page)).to_have_count(1)
        await expect(count(page)).to_have_text("Messages sent: 1")
        await page.unroute_all()
        await page.reload()


async def test_older_conversations_stay_open(site: Site, open_site: OpenPage) -> None:
    page = await open_site("many")
    for number in range(55):
        message_id = f"00000000-0000-4000-8000-0000000000{number:02}"
        await page.request.post(
            "chat/", data={"user_id": "many", "text": f"talk {number}", "message_id": message_id}
        )
    await page.reload()
    await expect(past(page)).to_have_count(50)
    await button(page, "Show older").press("Enter")
    await expect(past(page)).to_have_count(55)
    await expect(past(page).last).to_be_focused()
    await send_and_wait(page, "one more")
    await expect(past(page).first).to_contain_text("one more")
    await expect(past(page)).to_have_count(56)

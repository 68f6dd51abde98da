"""What the page says of itself while it works or fails, and where the focus is."""

import asyncio
import re

import pytest
from playwright.async_api import Request, Route, expect

from tests.browser.conftest import OpenPage
from tests.browser.people import (
    button,
    message_box,
    past,
    progress,
    questions,
    replies,
    send,
    send_and_see,
    send_and_wait,
)
from tests.browser.sites import Site
from tests.browser.troubles import (
    AWAY,
    CONVERSATION,
    LIST,
    STREAM,
    abort,
    busy,
    look_again,
    see_a_problem,
    slow,
)

pytestmark = pytest.mark.asyncio(loop_scope="session")

PHONE = {"viewport": {"width": 390, "height": 800}}


# There, a click gives the focus to no button, and takes it from the box.
AS_IN_SAFARI = """addEventListener("mousedown", (event) => {
  event.preventDefault();
  document.activeElement.blur();
})"""


async def test_after_the_button_send_the_focus_is_in_the_box(open_site: OpenPage) -> None:
    page = await open_site()
    for n, way in enumerate(("mouse", "keyboard", "mouse in Safari"), 1):
        if way == "mouse in Safari":
            await page.evaluate(AS_IN_SAFARI)
        await message_box(page).fill("apples")
        if way == "keyboard":
            await message_box(page).press("Tab")
            await page.keyboard.press("Enter")
        else:
            await button(page, "Send").click()
        await expect(replies(page)).to_have_count(n)
        await expect(replies(page).last).to_have_attribute("aria-busy", "false")
        await page.keyboard.type("pears")
        await expect(message_box(page)).to_have_value("pears")


async def test_a_list_that_cannot_be_refreshed_leaves_the_drawer_as_it_is(
    open_site: OpenPage,
) -> None:
    page = await open_site(**PHONE)
    await send_and_wait(page, "apples")
    await page.route(LIST, abort)
    await button(page, "Conversations").click()
    search = page.get_by_label("Search conversations")
    await search.focus()
    await look_again(page)
    await expect(page.locator("#problem-text")).not_to_be_empty()
    await expect(search).to_be_focused()
    # A search that fails is told, whatever has failed before.
    await page.keyboard.type("app")
    await expect(button(page, "Retry")).to_be_enabled()
    await see_a_problem(page)


async def test_a_search_that_fails_is_told_even_after_a_reply_that_has_failed(
    site: Site, open_site: OpenPage
) -> None:
    page, go = await open_site(**PHONE), asyncio.Event()
    await send_and_wait(page, "apples")
    site.agent.script, site.agent.failure = [go], AWAY
    await send(page, "pears")
    await button(page, "Conversations").click()
    go.set()
    await expect(page.locator("#problem-text")).to_have_text("The model can't be reached")
    # The refresh that follows a reply must not overtake the search.
    await page.route(LIST, slow(0.6, busy))
    await page.get_by_label("Search conversations").fill("app")
    await expect(page.get_by_role("alert")).to_have_text("Busy")
    await expect(button(page, "Retry")).to_be_enabled()


async def test_the_list_is_that_of_the_user_also_after_a_search_of_another(
    open_site: OpenPage,
) -> None:
    page = await open_site()
    await send_and_wait(page, "apples")
    await page.get_by_label("Search conversations").fill("app")
    await expect(progress(page)).to_have_text("1 conversation found.")
    await page.route(LIST, slow(0.3))
    await send_and_wait(page, "pears")
    async with page.expect_response(LIST):  # a slow refresh, that of the user before
        await page.get_by_label("Chatting as").fill("bert")
        await page.keyboard.press("Enter")
    await page.wait_for_timeout(700)
    await expect(past(page)).to_have_count(0)


async def test_a_search_that_ends_meanwhile_leaves_a_title_open(open_site: OpenPage) -> None:
    page = await open_site()
    await send_and_wait(page, "apples")
    await page.route(LIST, slow(0.4), times=1)
    await page.get_by_label("Search conversations").fill("app")
    async with page.expect_response(LIST):
        await button(page, "Rename: apples").click()
        await page.keyboard.type("App")
    await page.keyboard.type("etizers")
    await page.keyboard.press("Enter")
    await expect(past(page)).to_have_text(re.compile("Appetizers"))
    await send_and_wait(page, "pears")  # the list is refreshed, still
    await expect(past(page)).to_contain_text("2 messages")


async def test_a_reply_that_fails_meanwhile_saves_no_half_written_title(
    site: Site, open_site: OpenPage
) -> None:
    page, go, saved = await open_site(**PHONE), asyncio.Event(), list[str | None]()

    def note(request: Request) -> None:
        if request.method == "PATCH":
            saved.append(request.post_data)

    page.on("request", note)
    await send_and_wait(page, "apples")
    site.agent.script, site.agent.failure = [go], AWAY
    await send(page, "pears")
    await button(page, "Conversations").click()
    await button(page, "Rename: apples").click()
    await page.keyboard.type("Fru")
    go.set()
    await expect(page.locator("#problem-text")).not_to_be_empty()
    assert saved == []
    await page.route(CONVERSATION, busy)
    await page.keyboard.type("its")
    await page.keyboard.press("Enter")
    await expect(page.locator("#problem-text")).to_have_text("Busy")
    await page.wait_for_timeout(200)
    assert saved == ['{"title":"Fruits"}']


async def test_a_failed_message_is_in_sight_after_a_reload(site: Site, open_site: OpenPage) -> None:
    page = await open_site()
    site.agent.script = ["\n\n".join(f"line {n}" for n in range(60))]
    await send_and_wait(page, "pears")
    await page.route(STREAM, abort)
    await send(page, "apples")
    await see_a_problem(page)
    await page.reload()
    await expect(button(page, "Send again")).to_be_in_viewport()
    await expect(button(page, "↓ Newest")).to_be_hidden()


async def test_the_list_tells_that_an_old_conversation_is_being_answered(
    site: Site, open_site: OpenPage
) -> None:
    page = await open_site()
    await send_and_wait(page, "apples")
    go = await send_and_see(site, page, "pears")
    await button(page, "New conversation").click()
    await expect(past(page)).to_have_text([re.compile("apples.*Being answered…")])
    site.agent.failure = AWAY
    go.set()
    await expect(past(page)).to_have_text([re.compile("apples.*Not answered")])
    await past(page).click()
    await see_a_problem(page)
    await expect(past(page)).to_have_text([re.compile("apples.*1 message")])


async def test_a_slow_conversation_is_said_to_be_loading(open_site: OpenPage) -> None:
    page, go = await open_site(), asyncio.Event()
    await send_and_wait(page, "apples")

    async def late(route: Route) -> None:
        await go.wait()
        await route.continue_()

    await page.route(CONVERSATION, late)
    await page.reload()
    loading = page.locator("#empty").get_by_text("Loading the conversation…")
    await expect(loading).to_be_visible()
    go.set()
    await expect(questions(page)).to_have_count(1)
    await expect(loading).to_be_hidden()


async def test_new_conversations_after_each_other_are_one_step_of_the_history(
    open_site: OpenPage,
) -> None:
    page = await open_site()
    await send_and_wait(page, "apples")
    for _ in range(3):
        await button(page, "New conversation").click()
    await page.go_back()
    await expect(questions(page)).to_have_text([re.compile("apples")])


async def test_the_box_says_that_an_earlier_message_is_edited(open_site: OpenPage) -> None:
    page = await open_site()
    await send_and_wait(page, "apples")
    await button(page, "Edit and resend").click()
    await expect(message_box(page)).to_have_accessible_description(
        re.compile("Editing your message")
    )
    await button(page, "Cancel editing").click()
    await expect(message_box(page)).not_to_have_accessible_description(re.compile("Editing"))

"""A network that is away for a while, and what the server has done meanwhile."""

import asyncio

import pytest
from playwright.async_api import Route, expect

from tests.browser.conftest import OpenPage
from tests.browser.people import (
    begin_edit,
    button,
    count,
    message_box,
    progress,
    questions,
    replies,
    send,
    send_and_see,
    send_and_wait,
    texts,
)
from tests.browser.sites import Site
from tests.browser.troubles import (
    CONVERSATION,
    LIST,
    STREAM,
    abort,
    busy,
    chat_elsewhere,
    cut_at_once,
    find_the_network,
    look_again,
    once,
    see_a_problem,
    slow,
    unseen,
)

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_reply_that_was_lost_in_the_background_is_no_problem(open_site: OpenPage) -> None:
    page = await open_site()
    await page.route(STREAM, slow(0.5, unseen))
    await send(page, "apples")
    async with page.expect_event("requestfailed"):
        await button(page, "New conversation").click()
    await page.go_back()
    await expect(replies(page)).to_contain_text("Fine.")
    await expect(page.get_by_role("alert")).to_be_hidden()


async def test_a_reply_whose_answer_was_lost_is_told_once_it_is_here(open_site: OpenPage) -> None:
    page = await open_site()
    await page.route(STREAM, unseen, times=1)
    await send(page, "apples")
    await expect(replies(page)).to_contain_text("Fine.")
    await expect(progress(page)).to_have_text("Reply complete.")


async def test_what_the_server_ends_later_is_seen_with_the_next_message(
    site: Site, open_site: OpenPage
) -> None:
    page, go = await open_site(), asyncio.Event()
    site.agent.script = [go, "Fine."]
    await page.route(STREAM, cut_at_once, times=1)
    await send(page, "apples")
    async with page.expect_response(CONVERSATION):  # which doesn't have it yet
        await see_a_problem(page)
    go.set()
    await send_and_wait(page, "pears")
    await expect(replies(page)).to_have_text(texts("Fine.", "Fine."))
    await expect(questions(page)).to_have_text(texts("apples", "pears"))


async def test_a_conversation_that_could_not_be_loaded_is_shown_whole_once_online(
    open_site: OpenPage,
) -> None:
    page = await open_site()
    await send_and_wait(page, "apples")
    await page.route(STREAM, busy)
    await send(page, "pears")
    await see_a_problem(page)
    await begin_edit(page, "plu")
    await page.route(CONVERSATION, abort)
    await page.reload()
    await see_a_problem(page)
    await page.unroute_all()
    await find_the_network(page)
    await expect(questions(page)).to_have_text(texts("apples", "pears"))
    await expect(replies(page).last).to_contain_text("Not answered.")
    await expect(message_box(page)).to_have_value("plu")
    await expect(page.get_by_role("alert")).to_be_hidden()


async def test_the_count_is_known_again_once_online(open_site: OpenPage) -> None:
    page = await open_site()
    await page.route("**/analytics*", abort)
    await send_and_wait(page, "apples")
    await expect(count(page)).to_have_text("Messages sent: unknown")
    await page.unroute_all()
    await find_the_network(page)
    await expect(count(page)).to_have_text("Messages sent: 1")


async def test_a_message_that_fails_again_stays_in_its_place(open_site: OpenPage) -> None:
    page = await open_site()
    await page.route(STREAM, busy)
    await send(page, "apples")
    await see_a_problem(page)
    await page.unroute_all()
    await send_and_wait(page, "pears")
    await page.route(STREAM, busy)
    await button(page, "Send again").click()
    await see_a_problem(page)
    await expect(questions(page)).to_have_text(texts("apples", "pears"))
    await expect(button(page, "Regenerate")).to_be_visible()


async def test_a_half_written_edit_is_there_on_return_to_a_reply(
    site: Site, open_site: OpenPage
) -> None:
    page, go = await open_site(), asyncio.Event()
    await send_and_wait(page, "apples")
    await begin_edit(page, "half wr")
    site.agent.script = ["Another ", go, "one."]
    await button(page, "Regenerate").click()
    await expect(replies(page)).to_contain_text("Another")
    await button(page, "New conversation").click()
    await page.go_back()
    await expect(message_box(page)).to_have_value("half wr")
    await expect(page.locator("#editing")).to_be_visible()
    go.set()
    await expect(progress(page)).to_have_text("Reply complete.")
    await expect(message_box(page)).to_have_value("half wr")


async def test_the_focus_stays_when_a_button_goes(open_site: OpenPage) -> None:
    page = await open_site()
    await send_and_wait(page, "apples")
    await page.route(LIST, abort)
    await look_again(page)
    await button(page, "Retry").focus()
    await page.unroute_all()
    await find_the_network(page)
    await expect(page.get_by_role("alert")).to_be_hidden()
    await expect(message_box(page)).to_be_focused()
    await button(page, "Regenerate").focus()
    await chat_elsewhere(page, "pears")
    await find_the_network(page)
    await expect(questions(page)).to_have_text(texts("apples", "pears"))
    await expect(page.get_by_role("log")).to_be_focused()


async def test_a_regenerated_reply_that_was_lost_on_the_way_is_no_problem(
    site: Site, open_site: OpenPage
) -> None:
    page, go = await open_site(), asyncio.Event()
    await send_and_wait(page, "apples")
    site.agent.script = ["Better."]
    await page.route(STREAM, unseen, times=1)
    await page.route(CONVERSATION, once(go, Route.continue_))
    await button(page, "Regenerate").click()
    await see_a_problem(page)
    go.set()
    await expect(replies(page)).to_contain_text("Better.")
    await expect(page.get_by_role("alert")).to_be_hidden()


async def test_while_a_reply_comes_no_earlier_message_can_be_sent_again(
    site: Site, open_site: OpenPage
) -> None:
    page = await open_site()
    await page.route(STREAM, busy, times=1)
    await send(page, "apples")
    await see_a_problem(page)
    go = await send_and_see(site, page, "pears")
    await expect(button(page, "Send again")).to_be_hidden()
    go.set()
    await button(page, "Send again").click()
    await expect(questions(page)).to_have_text(texts("pears", "apples"))
    await expect(progress(page)).to_have_text("Reply complete.")
    assert site.agent.asked == ["pears", "apples"]

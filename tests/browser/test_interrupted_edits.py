"""Edits between which something else happens: another reply, a Stop, a Retry, another page."""

import asyncio
import re

import pytest
from playwright.async_api import Route, expect

from tests.browser.conftest import OpenPage
from tests.browser.people import (
    begin_edit,
    button,
    count,
    message_box,
    past,
    progress,
    questions,
    replies,
    second_tab,
    send,
    send_and_wait,
    send_edit,
)
from tests.browser.sites import Site
from tests.browser.troubles import (
    CONVERSATION,
    STREAM,
    abort,
    busy,
    chat_elsewhere,
    hang,
    look_again,
    once,
    see_a_problem,
    slow,
)

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_an_edit_is_still_one_after_a_visit_to_another_page(open_site: OpenPage) -> None:
    page = await open_site()
    await send_and_wait(page, "apples")
    await begin_edit(page, "pears")
    await page.goto("data:text/html,another site")
    await page.go_back()
    await expect(button(page, "Cancel editing")).to_be_visible()
    await expect(message_box(page)).to_have_value("pears")
    await message_box(page).press("Enter")
    await expect(questions(page)).to_have_text([re.compile("pears")])
    await expect(count(page)).to_have_text("Messages sent: 1")


@pytest.mark.parametrize("name", ["Regenerate", "Send again"])
async def test_the_retry_of_another_reply_leaves_an_edit_alone(
    site: Site, open_site: OpenPage, name: str
) -> None:
    page = await open_site()
    if name == "Regenerate":
        await send_and_wait(page, "apples")
    await page.route(STREAM, busy)
    if name == "Send again":
        await send(page, "apples")
        await see_a_problem(page)
    await begin_edit(page, "half wr")
    await button(page, name).click()
    await see_a_problem(page)
    await page.unroute_all()
    site.agent.asked.clear()
    await button(page, "Retry").click()
    await expect(progress(page)).to_have_text("Reply complete.")
    assert site.agent.asked == ["apples"]
    await expect(message_box(page)).to_have_value("half wr")


async def test_another_reply_that_is_stopped_offline_is_no_edit(open_site: OpenPage) -> None:
    page = await open_site()
    await send_and_wait(page, "apples")
    await page.route(STREAM, hang)
    await page.route(CONVERSATION, abort)
    await begin_edit(page, "pears")
    await button(page, "Regenerate").click()
    await expect(progress(page)).to_have_text("The assistant is replying…")
    await page.keyboard.press("Escape")
    await page.wait_for_timeout(800)  # the page has tried to read the conversation
    await page.unroute_all()
    await page.reload()
    await expect(message_box(page)).to_have_value("pears")


async def test_an_edit_that_goes_on_after_a_stop_is_kept(open_site: OpenPage) -> None:
    page = await open_site()
    await send_and_wait(page, "apples")
    await page.route(STREAM, hang)
    await page.route(CONVERSATION, slow(1))
    await send_edit(page, "pears")
    await expect(progress(page)).to_have_text("The assistant is replying…")
    await page.keyboard.press("Escape")
    await button(page, "Edit and resend").click()
    await message_box(page).press_sequentially(" and plums")
    await expect(questions(page)).to_have_text([re.compile("apples")])  # it has been read
    await page.unroute_all()
    await page.reload()
    await expect(message_box(page)).to_have_value("pears and plums")


async def test_the_edit_of_a_failed_message_is_restored_before_a_draft(
    open_site: OpenPage,
) -> None:
    page = await open_site()
    await send_and_wait(page, "apples")
    await page.route(STREAM, busy)
    await send(page, "pears")
    await see_a_problem(page)
    await message_box(page).press_sequentially("a draft")
    await button(page, "Edit and resend").last.click()
    await message_box(page).fill("plums")
    await page.reload()
    await expect(message_box(page)).to_have_value("plums")
    await button(page, "Cancel editing").click()
    await expect(message_box(page)).to_have_value("a draft")


async def test_a_retry_sends_nothing_to_a_conversation_that_was_chosen_meanwhile(
    site: Site, open_site: OpenPage
) -> None:
    page = await open_site()
    await send_and_wait(page, "figs")
    await button(page, "New conversation").click()
    await send_and_wait(page, "apples")
    await begin_edit(page, "pears")
    await chat_elsewhere(page, "plums")
    await message_box(page).press("Enter")
    await see_a_problem(page)
    site.agent.asked.clear()
    read = asyncio.Event()
    await page.route(CONVERSATION, once(read, Route.continue_), times=1)
    await button(page, "Retry").click()
    await past(page).filter(has_text="figs").click()
    await expect(questions(page)).to_have_text([re.compile("figs")])
    read.set()
    await page.wait_for_timeout(500)
    assert site.agent.asked == []
    await page.go_back()
    await expect(message_box(page)).to_have_value("pears")


async def test_another_tab_shows_an_older_message_that_is_sent_again_as_the_last(
    site: Site, open_site: OpenPage
) -> None:
    page = await open_site()
    await page.route(STREAM, busy)
    await send(page, "apples")
    await see_a_problem(page)
    await page.unroute_all()
    await send_and_wait(page, "pears")
    go = asyncio.Event()
    site.agent.script = ["Hello ", go, "and the end."]
    await button(page, "Send again").click()
    await expect(replies(page).last).to_contain_text("Hello")
    two = await second_tab(page)
    await expect(questions(two)).to_have_text([re.compile("pears"), re.compile("apples")])
    go.set()
    await expect(replies(two).last).to_contain_text("and the end.")


async def test_an_edit_that_was_stopped_unread_returns_once_the_service_is_back(
    open_site: OpenPage,
) -> None:
    page = await open_site()
    await send_and_wait(page, "apples")
    await page.route(STREAM, hang)
    await page.route(CONVERSATION, abort)
    await send_edit(page, "pears")
    await expect(progress(page)).to_have_text("The assistant is replying…")
    await page.keyboard.press("Escape")
    await page.wait_for_timeout(500)  # it can't be read
    await page.unroute_all()
    await look_again(page)
    await expect(message_box(page)).to_have_value("pears")
    await expect(questions(page)).to_have_text([re.compile("apples")])


async def test_an_edit_that_was_cancelled_is_not_sent_by_a_retry(
    site: Site, open_site: OpenPage
) -> None:
    page = await open_site()
    await send_and_wait(page, "apples")
    await page.route(STREAM, busy)
    await send_edit(page, "pears")
    await see_a_problem(page)
    await button(page, "Cancel editing").click()
    await page.unroute_all()
    site.agent.asked.clear()
    await button(page, "Retry").click()
    await page.wait_for_timeout(500)
    assert site.agent.asked == []
    await expect(questions(page)).to_have_text([re.compile("apples")])


async def test_a_retry_sends_this_tabs_edit_not_that_of_another(
    site: Site, open_site: OpenPage
) -> None:
    one = await open_site()
    await send_and_wait(one, "apples")
    two = await second_tab(one)
    await expect(questions(two)).to_have_count(1)
    await one.route(STREAM, slow(1, busy))
    await send_edit(one, "pears")
    await begin_edit(two, "half wr")
    await see_a_problem(one)
    await expect(message_box(one)).to_have_value("pears")
    await one.unroute_all()
    site.agent.asked.clear()
    await button(one, "Retry").click()
    await expect(progress(one)).to_have_text("Reply complete.")
    assert site.agent.asked == ["pears"]


async def test_the_retry_of_another_reply_is_for_the_text_that_is_shown(
    site: Site, open_site: OpenPage
) -> None:
    one = await open_site()
    await send_and_wait(one, "apples")
    await one.route(STREAM, busy)
    await button(one, "Regenerate").click()
    await see_a_problem(one)
    await one.unroute_all()
    two = await second_tab(one)
    await send_edit(two, "pears")
    await expect(questions(one)).to_have_text([re.compile("pears")])
    site.agent.asked.clear()
    await button(one, "Retry").click()
    await expect(progress(one)).to_have_text("Reply complete.")
    assert site.agent.asked == ["pears"]


async def test_escape_at_the_end_of_a_reply_cancels_no_edit(
    site: Site, open_site: OpenPage
) -> None:
    page = await open_site()
    await send_and_wait(page, "apples")
    await begin_edit(page, "pears")
    go = asyncio.Event()
    site.agent.script = ["Another ", go, "one."]
    await button(page, "Regenerate").click()
    await expect(replies(page)).to_contain_text("Another")
    await message_box(page).focus()
    await page.evaluate(
        "new MutationObserver((_, observer) => {"
        " if (!document.querySelector('#stop').hidden) return;"
        " observer.disconnect();"
        " const at = { key: 'Escape', bubbles: true };"
        " document.querySelector('#text').dispatchEvent(new KeyboardEvent('keydown', at));"
        "}).observe(document.querySelector('#stop'), { attributes: true })"
    )
    go.set()
    await expect(progress(page)).to_have_text("Reply complete.")
    await expect(message_box(page)).to_have_value("pears")
    await page.wait_for_timeout(600)
    await page.keyboard.press("Escape")
    await expect(message_box(page)).to_have_value("")

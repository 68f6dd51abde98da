"""Edits of messages whose reply was lost, so that only the server knows what it has."""

import asyncio

import pytest
from playwright.async_api import Page, Route, expect

from tests.browser.conftest import OpenPage
from tests.browser.people import (
    begin_edit,
    button,
    count,
    message_box,
    progress,
    questions,
    replies,
    second_tab,
    send,
    send_and_wait,
    send_edit,
    texts,
)
from tests.browser.sites import Site
from tests.browser.troubles import (
    CONVERSATION,
    NO_STORAGE,
    STREAM,
    Handler,
    abort,
    busy,
    chat_elsewhere,
    cut_at_once,
    look_again,
    lose_the_network,
    no_upstream,
    once,
    see_a_problem,
    slow,
    unseen,
)
from tests.fakes import eventually

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def correct_in_vain(page: Page, first: Handler, second: Handler) -> None:
    """Send "apples" and then an edit of it. `first` and `second` make the requests fail."""
    await page.route(STREAM, second)
    await page.route(STREAM, first, times=1)
    for text, do in (("apples", send), ("pears", send_edit)):
        await do(page, text)
        await expect(questions(page).last).to_contain_text(text)
        await see_a_problem(page)
    await page.wait_for_timeout(400)  # until the page has read the conversation
    await page.unroute_all()


async def correct_what_is_stored(open_site: OpenPage) -> Page:
    """A page that has sent "apples" and edited it, and learns only now that the server has that."""
    page = await open_site()
    await page.route(CONVERSATION, abort)
    await correct_in_vain(page, unseen, abort)
    await lose_the_network(page)
    return page


@pytest.mark.parametrize("way", ["cut", "stopped"])
async def test_an_edit_replaces_a_message_that_the_server_is_still_answering(
    site: Site, open_site: OpenPage, way: str
) -> None:
    page, go = await open_site(), asyncio.Event()
    site.agent.script = [go, "Fine."]
    await page.route(STREAM, cut_at_once if way == "cut" else lambda one: one.fetch(), times=1)
    await send(page, "apples")
    await eventually(lambda: site.agent.asked)
    if way == "cut":
        await see_a_problem(page)
    else:
        await page.keyboard.press("Escape")
        await expect(replies(page)).to_contain_text("Stopped.")
    await send_edit(page, "pears")
    go.set()
    await expect(progress(page)).to_have_text("Reply complete.")
    assert site.agent.asked == ["apples", "pears"]
    await page.reload()
    await expect(questions(page)).to_have_text(texts("pears"))
    await expect(count(page)).to_have_text("Messages sent: 1")


@pytest.mark.parametrize("then", ["lost", "refused", "reloaded"])
async def test_send_again_sends_what_is_shown(site: Site, open_site: OpenPage, then: str) -> None:
    page, go = await open_site(), asyncio.Event()
    site.agent.script = [go, "Fine."]
    await correct_in_vain(page, cut_at_once, busy if then == "refused" else abort)
    if then == "reloaded":
        await page.reload()
    await button(page, "Send again").click()
    go.set()
    await expect(progress(page)).to_have_text("Reply complete.")
    await expect(questions(page)).to_have_text(texts("pears"))
    assert site.agent.asked == ["apples", "pears"]


async def test_a_retry_sends_what_has_failed_also_if_the_server_has_had_an_earlier_text(
    site: Site, open_site: OpenPage
) -> None:
    page = await correct_what_is_stored(open_site)
    await expect(questions(page)).to_have_text(texts("apples"))
    await page.locator("#retry").click()
    await expect(progress(page)).to_have_text("Reply complete.")
    await expect(questions(page)).to_have_text(texts("pears"))
    assert site.agent.asked == ["apples", "pears"]


async def test_a_retry_sends_no_correction_that_was_cancelled(
    site: Site, open_site: OpenPage
) -> None:
    page = await correct_what_is_stored(open_site)
    await expect(message_box(page)).to_have_value("pears")
    await button(page, "Cancel editing").click()
    await page.locator("#retry").click()
    await expect(page.get_by_role("alert")).to_be_hidden()
    await send_and_wait(page, "plums")
    assert site.agent.asked == ["apples", "plums"]


async def test_a_retry_sends_a_correction_as_it_is_by_now(site: Site, open_site: OpenPage) -> None:
    page = await correct_what_is_stored(open_site)
    await expect(message_box(page)).to_have_value("pears")
    await message_box(page).press_sequentially(" and plums")
    async with page.expect_response(CONVERSATION):
        await look_again(page)
    await page.locator("#retry").click()
    await expect(progress(page)).to_have_text("Reply complete.")
    await expect(questions(page)).to_have_text(texts("pears and plums"))
    assert site.agent.asked == ["apples", "pears and plums"]


async def test_a_retry_leaves_the_correction_of_another_tab(
    site: Site, open_site: OpenPage
) -> None:
    page = await open_site()
    await send_and_wait(page, "figs")
    await page.route(STREAM, busy)
    await send(page, "apples")
    await see_a_problem(page)
    other = await second_tab(page)
    await expect(replies(other).last).to_contain_text("Not answered.")
    await button(other, "Edit and resend").last.click()
    await message_box(other).fill("pears")
    await message_box(other).press("Enter")
    await expect(progress(other)).to_have_text("Reply complete.")
    await expect(questions(page)).to_have_text(texts("figs", "pears"))
    await expect(page.get_by_role("alert")).to_be_hidden()
    assert site.agent.asked == ["figs", "pears"]


async def test_an_edit_that_is_begun_early_has_the_correction(open_site: OpenPage) -> None:
    page = await open_site()
    await page.route(CONVERSATION, abort)
    await correct_in_vain(page, unseen, abort)
    await page.route(CONVERSATION, slow(0.3))
    await page.reload()
    await expect(questions(page)).to_have_text(texts("apples"))
    await button(page, "Edit and resend").click()
    await expect(message_box(page)).to_have_value("pears")
    await page.wait_for_timeout(1000)
    await page.reload()
    await expect(message_box(page)).to_have_value("pears")


async def test_another_tab_that_regenerates_leaves_the_unsent_edit(open_site: OpenPage) -> None:
    page = await open_site()
    await page.route(CONVERSATION, abort)
    await correct_in_vain(page, unseen, abort)
    other = await second_tab(page)
    await button(other, "Regenerate").click()
    await expect(progress(other)).to_have_text("Reply complete.")
    await page.reload()
    await expect(questions(page)).to_have_text(texts("apples"))
    await expect(message_box(page)).to_have_value("pears")


async def test_an_edit_that_no_server_has_got_is_there_after_a_reload(open_site: OpenPage) -> None:
    page = await open_site()
    await page.route(STREAM, busy)
    await send(page, "apples")
    await see_a_problem(page)
    await page.route(STREAM, no_upstream)
    async with page.expect_response(CONVERSATION):  # which doesn't have it either
        await send_edit(page, "pears")
    await page.reload()
    await expect(questions(page)).to_have_text(texts("pears"))


async def test_an_edit_of_a_message_that_another_machine_has_followed_is_a_new_message(
    site: Site, open_site: OpenPage
) -> None:
    page = await open_site()
    await page.route(STREAM, unseen, times=1)
    await page.route(CONVERSATION, abort)
    await send(page, "apples")
    await see_a_problem(page)
    await chat_elsewhere(page, "plums")
    await send_edit(page, "pears")
    await expect(page.get_by_role("alert")).to_contain_text("last message")
    await expect(message_box(page)).to_have_value("pears")
    await page.unroute_all()
    await page.locator("#retry").click()
    await expect(progress(page)).to_have_text("Reply complete.")
    await expect(questions(page)).to_have_text(texts("apples", "plums", "pears"))


async def test_an_edit_whose_reply_is_cut_off_leaves_the_box_once_the_server_has_it(
    site: Site, open_site: OpenPage
) -> None:
    page, go = await open_site(), asyncio.Event()
    await send_and_wait(page, "apples")
    await page.route(STREAM, unseen, times=1)
    await page.route(CONVERSATION, once(go, Route.continue_))
    await send_edit(page, "pears")
    await see_a_problem(page)
    go.set()
    await expect(questions(page)).to_have_text(texts("pears"))
    await expect(message_box(page)).to_have_value("")
    await expect(page.locator("#editing")).to_be_hidden()
    await expect(page.get_by_role("alert")).to_be_hidden()
    await expect(replies(page)).to_contain_text("Fine.")
    # One that is begun later stays open.
    await button(page, "Edit and resend").click()
    async with page.expect_response(CONVERSATION):
        await lose_the_network(page)
    await expect(page.locator("#editing")).to_be_visible()


async def test_an_edit_that_changes_nothing_yet_stays_open(open_site: OpenPage) -> None:
    page = await open_site()
    await send_and_wait(page, "apples")
    await begin_edit(page, "apples and")
    await message_box(page).fill("apples")
    async with page.expect_response(CONVERSATION):
        await lose_the_network(page)
    await message_box(page).press_sequentially(" and pears")
    await message_box(page).press("Enter")
    await expect(questions(page)).to_have_text(texts("apples and pears"))


async def test_a_retry_without_storage_sends_the_edit(site: Site, open_site: OpenPage) -> None:
    page = await open_site()
    await page.add_init_script(NO_STORAGE)
    await page.reload()
    await send_and_wait(page, "apples")
    await page.route(STREAM, slow(0.3, busy), times=1)
    await send_edit(page, "pears")
    await message_box(page).press_sequentially("my draft")
    await see_a_problem(page)
    await button(page, "Retry").click()
    await expect(progress(page)).to_have_text("Reply complete.")
    assert site.agent.asked == ["apples", "pears"]
    await expect(message_box(page)).to_have_value("my draft")

"""Messages that failed, or whose replies haven't come, and edits that were not sent."""

import asyncio
import re

import pytest
from playwright.async_api import Page, Route, expect

from tests.browser.conftest import OpenPage
from tests.browser.people import (
    begin_edit,
    button,
    delete,
    message_box,
    past,
    progress,
    questions,
    replies,
    second_tab,
    send,
    send_and_see,
    send_and_wait,
    texts,
)
from tests.browser.sites import Site
from tests.browser.troubles import AWAY, CONVERSATION, LIST, NO_STORAGE, STREAM, busy, slow
from tests.fakes import eventually

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def of_two(route: Route) -> None:
    """Pages of two conversations."""
    await route.continue_(url=f"{route.request.url}&page_size=2")


async def have_conversations(page: Page, *texts: str) -> None:
    for text in texts:
        await button(page, "New conversation").click()
        await send_and_wait(page, text)


async def test_a_failed_message_stays_when_editing_it_is_cancelled(open_site: OpenPage) -> None:
    page = await open_site()
    await send_and_wait(page, "plums")
    await page.route(STREAM, lambda route: route.abort())
    await send(page, "apples")
    await expect(page.get_by_role("alert")).to_be_visible()
    await button(page, "Edit and resend").last.click()
    await message_box(page).fill("pears")
    await button(page, "Cancel editing").click()
    await page.reload()
    await expect(questions(page)).to_have_text([re.compile("plums"), re.compile("apples")])
    await expect(replies(page).last).to_contain_text("Not answered.")


async def test_failed_messages_come_back_in_their_order(open_site: OpenPage) -> None:
    page = await open_site()
    await page.route(STREAM, lambda route: route.abort())
    texts = [f"apples {n}" for n in range(6)]
    for text in texts:
        await send(page, text)
        await expect(page.get_by_role("alert")).to_be_visible()
    await page.reload()
    await expect(questions(page)).to_have_text([re.compile(text) for text in texts])


async def test_a_failed_edit_does_not_replace_what_is_being_typed(
    site: Site, open_site: OpenPage
) -> None:
    page, go = await open_site(), asyncio.Event()
    await send_and_wait(page, "apples")
    site.agent.script, site.agent.failure = [go], AWAY
    await button(page, "Edit and resend").click()
    await send(page, "pears")
    await message_box(page).press_sequentially("my next ")
    go.set()
    await expect(page.get_by_role("alert")).to_contain_text("reached")
    await message_box(page).press_sequentially("question")
    await expect(message_box(page)).to_have_value("my next question")
    await page.reload()
    await expect(message_box(page)).to_have_value("pears")
    await button(page, "Cancel editing").click()
    await expect(message_box(page)).to_have_value("my next question")


async def test_an_edit_that_was_sent_by_a_retry_is_over(site: Site, open_site: OpenPage) -> None:
    page, go = await open_site(), asyncio.Event()
    await send_and_wait(page, "apples")
    site.agent.script, site.agent.failure = [go], AWAY
    await button(page, "Edit and resend").click()
    await send(page, "pears")
    await message_box(page).fill("my next question")
    go.set()
    await expect(page.get_by_role("alert")).to_contain_text("reached")
    site.agent.failure = None
    await button(page, "Retry").click()
    await expect(progress(page)).to_have_text("Reply complete.")
    await page.reload()
    await expect(questions(page)).to_have_text(re.compile("pears"))
    await expect(message_box(page)).to_have_value("my next question")


async def test_an_earlier_edit_does_not_replace_what_is_being_typed(open_site: OpenPage) -> None:
    page = await open_site()
    await send_and_wait(page, "apples")
    await begin_edit(page, "pears")
    await page.route(CONVERSATION, slow(0.5))
    await page.reload()
    await message_box(page).press_sequentially("something ")
    await expect(questions(page)).to_have_count(1)
    await message_box(page).press_sequentially("else")
    await expect(message_box(page)).to_have_value("something else")
    await button(page, "Edit and resend").click()
    await expect(message_box(page)).to_have_value("pears")


async def test_an_edit_in_an_old_conversation_changes_nothing_in_the_list(
    open_site: OpenPage,
) -> None:
    page = await open_site()
    await have_conversations(page, "apples", "pears", "plums")
    await past(page).filter(has_text="apples").click()
    await begin_edit(page, "figs")
    await page.route(LIST, of_two)
    await page.goto("ui/")
    await expect(past(page)).to_have_text([re.compile("plums"), re.compile("pears")])


async def test_an_unanswered_message_shows_its_conversation_only_once(open_site: OpenPage) -> None:
    page = await open_site()
    await have_conversations(page, "apples", "pears", "plums")
    await past(page).filter(has_text="apples").click()
    await page.route(STREAM, lambda route: route.abort())
    await send(page, "figs")
    await expect(page.get_by_role("alert")).to_be_visible()
    await page.route(LIST, of_two)
    await page.goto("ui/")
    newest = [re.compile("figs"), re.compile("plums"), re.compile("pears")]
    await expect(past(page)).to_have_text(newest)
    # No refresh loads more than what is shown, which would be the whole list in the end.
    await page.clock.install()
    for _ in range(2):
        await page.clock.fast_forward(4000)
        async with page.expect_response(re.compile(r"/conversations\?")):
            await page.evaluate("dispatchEvent(new Event('focus'))")
    await expect(past(page)).to_have_text(newest)
    await button(page, "Show older").click()
    await expect(past(page)).to_have_text([*newest[1:], re.compile("apples")])


@pytest.mark.parametrize("slower", ["older", "refresh"])
async def test_older_conversations_that_are_asked_for_and_a_refresh_both_come(
    open_site: OpenPage, slower: str
) -> None:
    page = await open_site()
    await have_conversations(page, "apples", "pears", "plums")
    await page.route(LIST, of_two)
    await page.goto("ui/")
    await expect(past(page)).to_have_count(2)
    if slower == "older":
        await page.route(re.compile("page_token=."), slow(0.5, of_two), times=1)
        await button(page, "Show older").click()
        await send_and_wait(page, "figs")
    else:
        await page.route(LIST, slow(0.5, of_two), times=1)
        await send_and_wait(page, "figs")
        await button(page, "Show older").click()
    await expect(past(page)).to_have_text(texts("figs", "plums", "pears", "apples"))


async def test_a_regenerate_that_fails_elsewhere_is_reported_on_return(
    site: Site, open_site: OpenPage
) -> None:
    page, go = await open_site(), asyncio.Event()
    await send_and_wait(page, "apples")
    site.agent.script, site.agent.failure = [go], AWAY
    await button(page, "Regenerate").click()
    await button(page, "New conversation").click()
    go.set()
    await expect(past(page)).to_have_text("applesNot answered")
    await expect(page.get_by_role("alert")).to_be_hidden()
    site.agent.script, site.agent.failure = ["Better."], None
    await page.go_back()
    await expect(page.get_by_role("alert")).to_contain_text("can't be reached")
    await button(page, "Retry").click()
    await expect(replies(page)).to_contain_text("Better.")


async def test_a_message_that_fails_elsewhere_is_not_lost_without_storage(
    site: Site, open_site: OpenPage
) -> None:
    page, go = await open_site(), asyncio.Event()
    await page.add_init_script(NO_STORAGE)
    await page.reload()
    site.agent.script, site.agent.failure = [go], AWAY
    await send(page, "apples")
    await button(page, "New conversation").click()
    await eventually(lambda: site.under_way == 1)
    go.set()
    await eventually(lambda: site.under_way == 0)
    site.agent.script, site.agent.failure = ["Fine."], None
    await page.go_back()
    await expect(page.get_by_role("alert")).to_contain_text("can't be reached")
    await button(page, "Retry").click()
    await expect(questions(page)).to_contain_text("apples")
    await expect(replies(page)).to_contain_text("Fine.")


async def test_a_fifth_reply_goes_on_while_one_of_the_others_is_shown(
    site: Site, open_site: OpenPage
) -> None:
    page, go = await open_site(), asyncio.Event()
    site.agent.script = ["Hello ", go, "and the end."]
    for n in range(5):
        await button(page, "New conversation").click()
        await send(page, f"apples {n}")
        await expect(replies(page)).to_contain_text("Hello")
    await past(page).filter(has_text="apples 0").click()
    await page.wait_for_timeout(500)  # a stop is not seen at once
    await expect(past(page).filter(has_text="Being answered…")).to_have_count(5)
    go.set()
    await expect(past(page).filter(has_text="1 message")).to_have_count(5)
    await past(page).filter(has_text="apples 4").click()
    await expect(replies(page)).to_contain_text("Hello and the end.")


async def test_a_waiting_tab_never_calls_an_answered_message_failed(
    site: Site, open_site: OpenPage
) -> None:
    one = await open_site()
    go = await send_and_see(site, one, "apples")
    two = await second_tab(one)
    await expect(replies(two)).to_have_attribute("aria-busy", "true")
    await two.route(CONVERSATION, slow(0.5))
    note = """() => {
        window.notes = new Set();
        const all = document.getElementsByClassName("note");
        const note = () => [...all].forEach((one) => notes.add(one.innerText));
        new MutationObserver(note).observe(document.getElementById("log"), {
            subtree: true, childList: true, characterData: true });
    }"""
    await two.evaluate(note)
    go.set()
    await expect(replies(two)).to_contain_text("Hello and the end.")
    assert await two.evaluate("[...notes].join()") == ""


async def test_a_waiting_tab_offers_no_edit_of_what_is_stored(
    site: Site, open_site: OpenPage
) -> None:
    one = await open_site()
    await send_and_wait(one, "apples")
    await button(one, "Edit and resend").click()
    await send_and_see(site, one, "pears")
    two = await second_tab(one)
    await expect(replies(two)).to_contain_text("Fine.")
    await two.get_by_label("Search conversations").focus()
    await button(one, "Stop").click()
    await expect(questions(two)).to_contain_text("pears")
    await expect(replies(two)).to_contain_text("Stopped.")
    await two.wait_for_timeout(500)
    await expect(button(two, "Cancel editing")).to_be_hidden()
    await expect(two.get_by_label("Search conversations")).to_be_focused()


async def test_earlier_messages_come_after_a_reply_if_they_could_not_be_loaded(
    open_site: OpenPage,
) -> None:
    page = await open_site()
    await send_and_wait(page, "apples")
    await page.route(CONVERSATION, busy, times=1)
    await page.reload()
    await expect(page.get_by_role("alert")).to_contain_text("Busy")
    await send_and_wait(page, "pears")
    await expect(questions(page)).to_have_text([re.compile("apples"), re.compile("pears")])


async def test_a_problem_in_the_drawer_is_seen(open_site: OpenPage) -> None:
    page = await open_site(viewport={"width": 390, "height": 800})
    await send_and_wait(page, "apples")
    await page.route(CONVERSATION, busy)
    await button(page, "Conversations").click()
    await delete(page, "apples")
    await expect(page.get_by_role("alert")).to_contain_text("Busy")
    await page.unroute_all()
    await button(page, "Retry").click()
    await expect(questions(page)).to_have_count(0)


async def test_a_reply_ends_if_the_network_has_gone_silent(site: Site, open_site: OpenPage) -> None:
    page = await open_site()
    await page.clock.install()
    await send_and_see(site, page, "apples")
    # The server says every 15 s that it is still there.
    await page.clock.fast_forward(40_000)
    await expect(progress(page)).to_have_text("The assistant is replying…")
    await page.clock.fast_forward(10_000)
    await expect(page.get_by_role("alert")).to_contain_text("The connection broke")
    await expect(replies(page)).to_contain_text("Not complete.")

"""Unsent texts are kept, and messages stay in order, whatever happens in between."""

import asyncio

import httpx2
import pytest
from playwright.async_api import expect

from tests.browser.conftest import OpenPage
from tests.browser.people import (
    begin_edit,
    button,
    message_box,
    past,
    progress,
    questions,
    replies,
    second_tab,
    send,
    send_and_see,
    send_and_wait,
    send_edit,
    texts,
)
from tests.browser.sites import Site
from tests.browser.troubles import (
    AWAY,
    CONVERSATION,
    FILL_STORAGE,
    STREAM,
    abort,
    chat_elsewhere,
    delete_elsewhere,
    hang,
    no_upstream,
    read_early,
    see_a_problem,
    slow,
)

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_message_that_is_sent_while_its_conversation_loads_is_the_last(
    site: Site, open_site: OpenPage
) -> None:
    page = await open_site()
    await send_and_wait(page, "apples")
    await send_and_wait(page, "pears")
    loads = asyncio.Event()
    await page.route(CONVERSATION, read_early(loads), times=1)
    await page.reload()
    go = await send_and_see(site, page, "plums")
    loads.set()
    await expect(questions(page)).to_have_text(texts("apples", "pears", "plums"))
    await expect(progress(page)).to_have_text("The assistant is replying…")
    go.set()
    await expect(progress(page)).to_have_text("Reply complete.")
    await expect(questions(page)).to_have_text(texts("apples", "pears", "plums"))
    await expect(button(page, "Regenerate")).to_have_count(1)


async def test_a_failed_message_is_in_its_place_after_a_reload(open_site: OpenPage) -> None:
    page = await open_site()
    await send_and_wait(page, "apples")
    await page.route(STREAM, abort)
    await send(page, "pears")
    await see_a_problem(page)
    await page.unroute_all()
    await send_and_wait(page, "plums")
    await page.reload()
    await expect(questions(page)).to_have_text(texts("apples", "pears", "plums"))
    await expect(button(page, "Regenerate")).to_be_visible()


async def test_a_conversation_that_is_reloaded_does_not_look_new_before(
    open_site: OpenPage,
) -> None:
    page = await open_site()
    await send_and_wait(page, "apples")
    await page.route("**/*.js", slow(0.1))
    await page.add_init_script(
        "window.seen = []; setInterval(() => {"
        " const text = document.querySelector('#empty');"
        " if (text?.checkVisibility()) seen.push(text.textContent); }, 10)"
    )
    await page.reload()
    await expect(questions(page)).to_have_text(texts("apples"))
    assert await page.evaluate("seen") == []


async def test_an_edit_survives_a_message_of_another_tab(open_site: OpenPage) -> None:
    one = await open_site()
    await send_and_wait(one, "apples")
    two = await second_tab(one)
    await begin_edit(two, "apples and pears")
    await send_and_wait(one, "plums")
    await two.reload()
    await expect(questions(two)).to_have_count(2)
    await expect(message_box(two)).to_have_value("apples and pears")


async def test_the_edit_of_an_older_failed_message_survives_a_new_message(
    open_site: OpenPage,
) -> None:
    page = await open_site()
    await page.route(STREAM, abort)
    for text in ("apples", "pears"):
        await send(page, text)
        await see_a_problem(page)
    edit = button(page, "Edit and resend")
    await edit.first.click()
    await message_box(page).fill("apples and plums")
    await edit.last.click()
    await button(page, "Cancel editing").click()
    await page.unroute_all()
    await send_and_wait(page, "figs")
    await edit.first.click()
    await expect(message_box(page)).to_have_value("apples and plums")


async def test_the_retry_of_an_edit_that_came_too_late_sends_it_beside_a_draft(
    open_site: OpenPage,
) -> None:
    page = await open_site()
    await send_and_wait(page, "apples")
    await begin_edit(page, "pears")
    await chat_elsewhere(page, "plums")
    await page.route(STREAM, slow(0.5))
    await message_box(page).press("Enter")
    await message_box(page).press_sequentially("a draft")
    await see_a_problem(page)
    await button(page, "Retry").click()
    await expect(questions(page)).to_have_text(texts("apples", "plums", "pears"))
    await expect(progress(page)).to_have_text("Reply complete.")
    await expect(message_box(page)).to_have_value("a draft")


async def test_an_edit_that_is_stopped_before_the_server_has_it_returns_to_the_box(
    open_site: OpenPage,
) -> None:
    page = await open_site()
    await send_and_wait(page, "apples")
    await page.route(STREAM, hang)
    await send_edit(page, "pears")
    await expect(progress(page)).to_have_text("The assistant is replying…")
    await page.keyboard.press("Escape")
    await expect(message_box(page)).to_have_value("pears")
    await expect(questions(page)).to_have_text(texts("apples"))


async def test_a_message_that_is_stopped_before_the_server_has_it_can_be_sent_later(
    open_site: OpenPage,
) -> None:
    page = await open_site()
    await send_and_wait(page, "apples")
    await page.route(STREAM, hang, times=1)
    async with page.expect_request(STREAM):
        await send(page, "pears")
    await page.keyboard.press("Escape")
    await expect(progress(page)).to_have_text("Stopped.")
    await send_and_wait(page, "plums")
    await expect(button(page, "Send again")).to_be_visible()
    await expect(page.get_by_text("Not answered.").last).to_be_visible()
    await button(page, "Send again").click()
    await expect(questions(page)).to_have_text(texts("apples", "plums", "pears"))


async def test_another_reply_leaves_an_edit_in_the_box(site: Site, open_site: OpenPage) -> None:
    page = await open_site()
    await send_and_wait(page, "apples")
    await begin_edit(page, "pears")
    site.agent.script = ["Another one."]
    await button(page, "Regenerate").click()
    await expect(replies(page)).to_contain_text("Another one.")
    await expect(progress(page)).to_have_text("Reply complete.")  # Enter sends nothing before
    await expect(message_box(page)).to_have_value("pears")
    await message_box(page).press("Enter")
    await expect(questions(page)).to_have_text(texts("pears"))


async def test_the_edit_of_a_message_that_was_deleted_elsewhere_becomes_a_draft(
    open_site: OpenPage,
) -> None:
    page = await open_site("uma")
    await send_and_wait(page, "apples")
    await begin_edit(page, "pears")
    await delete_elsewhere(page)
    for _ in range(2):
        await page.reload()
        await expect(message_box(page)).to_have_value("pears")
    await expect(button(page, "Cancel editing")).to_be_hidden()


async def test_another_reply_can_be_had_once_a_proxy_finds_the_service_again(
    site: Site, open_site: OpenPage
) -> None:
    page = await open_site()
    await send_and_wait(page, "apples")
    await page.route(STREAM, no_upstream)
    await page.route(CONVERSATION, no_upstream)
    await button(page, "Regenerate").click()
    await see_a_problem(page)
    await page.unroute_all()
    site.agent.script = ["Another one."]
    await button(page, "Retry").click()
    await expect(replies(page)).to_contain_text("Another one.")


async def test_a_refresh_does_not_scroll_the_list_of_conversations(
    site: Site, open_site: OpenPage
) -> None:
    page = await open_site("uma")
    address = page.url.partition("ui/")[0]
    async with httpx2.AsyncClient() as http:
        for n in range(40):
            sent = {"user_id": "uma", "text": f"conversation {n}"}
            assert (await http.post(f"{address}chat/", json=sent)).status_code == 200
    await page.reload()
    await expect(past(page)).to_have_count(40)
    go = await send_and_see(site, page, "apples")
    await past(page).nth(2).focus()
    await past(page).first.hover()
    await page.mouse.wheel(0, 900)
    place = "document.querySelector('#sidebar').scrollTop"
    await page.wait_for_timeout(300)
    assert await page.evaluate(place) > 800
    site.agent.failure = AWAY
    go.set()
    await expect(replies(page)).to_contain_text("Not complete.")
    await page.wait_for_timeout(800)  # the list has been refreshed
    assert await page.evaluate(place) > 800


async def test_texts_that_storage_does_not_take_are_kept_until_the_page_is_left(
    open_site: OpenPage,
) -> None:
    page = await open_site()
    await send_and_wait(page, "apples")
    await page.evaluate(FILL_STORAGE)
    await page.route(STREAM, abort, times=1)
    await send(page, "pears")
    await see_a_problem(page)
    await message_box(page).fill("my draft")
    await button(page, "New conversation").click()
    await expect(message_box(page)).to_have_value("")
    await past(page).click()
    await expect(questions(page)).to_have_text(texts("apples", "pears"))
    await expect(message_box(page)).to_have_value("my draft")
    await button(page, "Send again").click()
    await expect(progress(page)).to_have_text("Reply complete.")
    await button(page, "New conversation").click()
    await past(page).click()
    await expect(message_box(page)).to_have_value("my draft")
    await message_box(page).press("Enter")
    await expect(questions(page)).to_have_text(texts("apples", "pears", "my draft"))

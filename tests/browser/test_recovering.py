"""What a user finds after a failure, and where the focus is."""

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
    NO_STORAGE,
    STREAM,
    abort,
    chat_elsewhere,
    delete_elsewhere,
    look_again,
    no_upstream,
    see_a_problem,
)
from tests.relay import pass_on

pytestmark = pytest.mark.asyncio(loop_scope="session")


class CuttableProxy:
    """Passes connections on to a server, and can break all of them."""

    def __init__(self, url: str) -> None:
        host, port = url.split("/")[2].split(":")
        self._server_at = host, int(port)
        self._writers: list[asyncio.StreamWriter] = []

    async def connect(
        self, from_client: asyncio.StreamReader, to_client: asyncio.StreamWriter
    ) -> None:
        from_server, to_server = await asyncio.open_connection(*self._server_at)
        self._writers += [to_client, to_server]
        await asyncio.gather(pass_on(from_client, to_server), pass_on(from_server, to_client))

    def cut(self) -> None:
        for writer in self._writers:
            writer.transport.abort()


async def test_the_edit_of_a_message_whose_connection_broke_replaces_it(
    site: Site, opened: OpenPage
) -> None:
    proxy = CuttableProxy(site.url)
    async with await asyncio.start_server(proxy.connect, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()
        page = await opened(f"http://{host}:{port}/daca/")
        await send_and_see(site, page, "apples")
        proxy.cut()
        await expect(replies(page)).to_contain_text("Stopped.")  # as the server has stored it
        site.agent.script = ["Fine."]
        await button(page, "Edit and resend").click()
        await send_and_wait(page, "apples and pears")
        await page.reload()
        await expect(questions(page)).to_have_text([re.compile("apples and pears")])
        await expect(count(page)).to_have_text("Messages sent: 1")
        server.close()
        proxy.cut()


async def test_a_failed_edit_whose_message_is_no_longer_the_last_is_kept_beside_a_draft(
    site: Site, open_site: OpenPage
) -> None:
    page, go = await open_site(), asyncio.Event()
    await send_and_wait(page, "apples")
    site.agent.script, site.agent.failure = [go], AWAY
    await button(page, "Edit and resend").click()
    await send(page, "pears")
    await message_box(page).press_sequentially("next question")
    go.set()
    await see_a_problem(page)
    site.agent.script, site.agent.failure = ["Fine."], None
    await message_box(page).press("Enter")
    await expect(progress(page)).to_have_text("Reply complete.")
    await message_box(page).press_sequentially("a draft")
    await page.reload()
    await expect(questions(page)).to_have_count(2)
    await expect(message_box(page)).to_have_value("a draft")
    await expect(button(page, "Cancel editing")).to_be_hidden()
    await message_box(page).fill("")
    await page.reload()
    await expect(message_box(page)).to_have_value("pears")
    await button(page, "Cancel editing").click()
    await page.reload()
    await expect(questions(page)).to_have_count(2)
    await expect(message_box(page)).to_have_value("")


async def test_an_edit_survives_a_message_from_elsewhere_and_a_reload(open_site: OpenPage) -> None:
    page = await open_site("uma")
    await send_and_wait(page, "apples")
    await begin_edit(page, "pears")
    await chat_elsewhere(page, "plums")
    await page.reload()
    await expect(questions(page)).to_have_count(2)
    await expect(message_box(page)).to_have_value("pears")
    await message_box(page).press("Enter")
    await expect(questions(page)).to_have_text(
        [re.compile("apples"), re.compile("plums"), re.compile("pears")]
    )


async def test_an_edit_that_fails_below_an_older_failed_message_still_replaces_its_own(
    site: Site, open_site: OpenPage
) -> None:
    page = await open_site()
    await page.route(STREAM, abort)
    await send(page, "apples")
    await see_a_problem(page)
    await page.unroute_all()
    await send_and_wait(page, "pears")
    site.agent.failure = AWAY
    await button(page, "Edit and resend").last.click()
    await send(page, "plums")
    await see_a_problem(page)
    await page.wait_for_timeout(500)  # the page has read the conversation again
    site.agent.failure = None
    await button(page, "Retry").click()
    await expect(progress(page)).to_have_text("Reply complete.")
    await expect(questions(page)).to_have_text([re.compile("apples"), re.compile("plums")])
    await expect(count(page)).to_have_text("Messages sent: 1")


async def test_a_message_that_a_proxy_does_not_know_where_to_send_can_be_sent_again(
    open_site: OpenPage,
) -> None:
    page = await open_site()
    await page.route(STREAM, no_upstream)
    await send(page, "apples")
    await see_a_problem(page)
    await page.reload()
    await expect(replies(page)).to_contain_text("Not answered.")
    await send(page, "pears")
    await see_a_problem(page)
    await page.unroute_all()
    await button(page, "Retry").click()
    await expect(replies(page).last).to_contain_text("Fine.")


async def test_a_failed_edit_returns_to_a_box_whose_text_was_deleted_again(
    site: Site, open_site: OpenPage
) -> None:
    page, go = await open_site(), asyncio.Event()
    await send_and_wait(page, "apples")
    site.agent.script, site.agent.failure = [go], AWAY
    await button(page, "Edit and resend").click()
    await send(page, "pears")
    await message_box(page).press("x")
    await message_box(page).press("Backspace")
    go.set()
    await expect(message_box(page)).to_have_value("pears")


async def test_without_storage_a_failed_edit_is_still_in_the_box(
    site: Site, open_site: OpenPage
) -> None:
    page = await open_site()
    await page.add_init_script(NO_STORAGE)
    await page.reload()
    await send_and_wait(page, "apples")
    site.agent.failure = AWAY
    await button(page, "Edit and resend").click()
    await send(page, "pears")
    await see_a_problem(page)
    await expect(message_box(page)).to_have_value("pears")


async def test_an_edited_message_that_was_deleted_elsewhere_can_be_sent_as_a_new_one(
    open_site: OpenPage,
) -> None:
    page = await open_site()
    await send_and_wait(page, "apples")
    await delete_elsewhere(page)
    await button(page, "Edit and resend").click()
    await send(page, "pears")
    await see_a_problem(page)
    await button(page, "Retry").click()
    await expect(progress(page)).to_have_text("Reply complete.")
    await page.reload()
    await expect(questions(page)).to_have_text([re.compile("pears")])


async def test_an_older_message_that_is_sent_again_becomes_the_last(
    site: Site, open_site: OpenPage
) -> None:
    page = await open_site()
    await page.route(STREAM, abort)
    await send(page, "apples")
    await see_a_problem(page)
    await page.unroute_all()
    site.agent.script = ["\n\n".join(f"line {n}" for n in range(60))]
    await send_and_wait(page, "pears")
    site.agent.script = ["Fine."]
    await button(page, "Send again").click()
    await expect(questions(page)).to_have_text([re.compile("pears"), re.compile("apples")])
    await expect(replies(page).last.get_by_text("Fine.")).to_be_in_viewport()


async def test_a_slow_reading_of_the_conversation_removes_no_later_reply(
    open_site: OpenPage,
) -> None:
    page = await open_site()
    await send_and_wait(page, "apples")

    async def slow(route: Route) -> None:
        answer = await route.fetch()
        await asyncio.sleep(1)
        await route.fulfill(response=answer)

    await page.route(CONVERSATION, slow, times=1)
    async with page.expect_request(CONVERSATION):
        await look_again(page)
    async with page.expect_response(CONVERSATION):
        await send_and_wait(page, "pears")
    await page.wait_for_timeout(200)
    await expect(questions(page)).to_have_text([re.compile("apples"), re.compile("pears")])

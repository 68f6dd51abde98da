"""A network that is away for a while, and what the server has done meanwhile."""

import asyncio

import pytest
from playwright.async_api import Request, Route, expect

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
    look_again,
    lose_the_network,
    once,
    see_a_problem,
    slow,
    unseen,
)
from tests.fakes import eventually

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
    await lose_the_network(page)
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
    await lose_the_network(page)
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
    await lose_the_network(page)
    await expect(page.get_by_role("alert")).to_be_hidden()
    await expect(message_box(page)).to_be_focused()
    await button(page, "Regenerate").focus()
    await chat_elsewhere(page, "pears")
    await lose_the_network(page)
    await expect(questions(page)).to_have_text(texts("apples", "pears"))
    await expect(page.get_by_role("log")).to_be_focused()


async def test_a_regenerated_reply_that_was_lost_on_the_way_is_no_problem(
    site: Site, open_site: OpenPage
) -> None:
    page = await open_site()
    await send_and_wait(page, "apples")
    site.agent.script = ["Better."]
    await page.route(STREAM, unseen, times=1)
    await button(page, "Regenerate").click()
    await see_a_problem(page)
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


async def test_that_a_conversation_is_not_loaded_is_said_after_a_reply_too(
    open_site: OpenPage,
) -> None:
    page = await open_site()
    await send_and_wait(page, "apples")
    await page.route(CONVERSATION, busy)
    await page.reload()
    await see_a_problem(page)
    await send_and_wait(page, "pears")
    await see_a_problem(page)
    await page.unroute_all()
    await button(page, "Retry").click()
    await expect(questions(page)).to_have_text(texts("apples", "pears"))


async def test_a_slow_network_shows_a_long_conversation_too(
    site: Site, open_site: OpenPage
) -> None:
    page = await open_site()
    site.agent.script = ["word " * 6000]
    await send_and_wait(page, "apples")
    network = await page.context.new_cdp_session(page)
    slow_link = {"offline": False, "latency": 0, "uploadThroughput": -1}
    await network.send("Network.emulateNetworkConditions", slow_link | {"downloadThroughput": 5000})
    await button(page, "New conversation").click()
    await page.go_back()
    await expect(replies(page)).to_contain_text("word", timeout=30_000)
    await expect(page.get_by_role("alert")).to_be_hidden()


async def test_a_slow_load_is_not_repeated_and_ends_with_its_view(open_site: OpenPage) -> None:
    page, loads = await open_site(), list[str]()
    await send_and_wait(page, "apples")
    await button(page, "New conversation").click()
    await page.route(CONVERSATION, slow(6))
    page.on("request", lambda request: loads.append(request.url))
    await page.go_back()
    await look_again(page)
    await page.wait_for_timeout(300)
    assert len([url for url in loads if "/conversations/" in url]) == 1
    async with page.expect_event("requestfailed"):
        await button(page, "New conversation").click()
    await expect(page.get_by_role("alert")).to_be_hidden()


async def test_a_load_that_hangs_is_repeated_once_online(open_site: OpenPage) -> None:
    page = await open_site()
    await send_and_wait(page, "apples")
    await button(page, "New conversation").click()
    await page.route(CONVERSATION, slow(8), times=1)
    await page.go_back()
    await lose_the_network(page)
    await expect(questions(page)).to_have_text(texts("apples"))


async def test_a_load_that_fails_after_a_later_one_is_no_problem(open_site: OpenPage) -> None:
    page = await open_site()
    await send_and_wait(page, "apples")
    await button(page, "New conversation").click()
    go = asyncio.Event()
    await page.route(CONVERSATION, once(go, abort), times=1)
    await page.go_back()
    await send_and_wait(page, "pears")
    await expect(questions(page)).to_have_text(texts("apples", "pears"))
    async with page.expect_event("requestfailed"):
        go.set()
    await page.wait_for_timeout(300)
    await expect(page.get_by_role("alert")).to_be_hidden()
    await expect(questions(page)).to_have_text(texts("apples", "pears"))


async def test_a_load_that_comes_after_a_later_one_takes_nothing_away(open_site: OpenPage) -> None:
    page = await open_site()
    await send_and_wait(page, "apples")
    other = await second_tab(page)
    await expect(questions(other)).to_have_text(texts("apples"))
    await button(page, "New conversation").click()
    go = asyncio.Event()

    async def read_early(route: Route) -> None:
        answer = await route.fetch()
        await go.wait()
        await route.fulfill(response=answer)

    await page.route(CONVERSATION, read_early, times=1)
    async with page.expect_request(CONVERSATION):
        await page.go_back()
    await page.wait_for_timeout(300)  # the server has answered
    await send_and_wait(other, "pears")
    await expect(questions(page)).to_have_text(texts("apples", "pears"))
    async with page.expect_event("requestfinished"):
        go.set()
    await page.wait_for_timeout(300)
    await expect(questions(page)).to_have_text(texts("apples", "pears"))


async def test_a_network_that_comes_and_goes_leaves_no_loads_behind(open_site: OpenPage) -> None:
    page = await open_site()
    await send_and_wait(page, "apples")
    await button(page, "New conversation").click()
    loads: list[Request] = []
    ended: list[Request] = []
    go = asyncio.Event()
    await page.route(CONVERSATION, once(go, abort))
    page.on("request", lambda one: loads.append(one) if "/conversations/" in one.url else None)
    page.on("requestfailed", lambda one: ended.append(one) if one in loads else None)
    await page.go_back()
    for _ in range(3):
        async with page.expect_request(CONVERSATION):
            await lose_the_network(page)
    # Sooner than their silence would end them.
    await eventually(lambda: len(loads) == 4 and ended == loads[:3], timeout_s=6)
    await page.unroute_all()
    await lose_the_network(page)
    await expect(questions(page)).to_have_text(texts("apples"))
    go.set()


async def test_a_load_that_fails_once_online_is_told_beside_another_problem(
    open_site: OpenPage,
) -> None:
    page = await open_site()
    await send_and_wait(page, "apples")
    await button(page, "New conversation").click()
    await page.route(LIST, abort)
    await page.route(CONVERSATION, slow(8, abort), times=1)
    await page.go_back()
    await page.get_by_label("Search conversations").fill("apples")
    await see_a_problem(page)
    await expect(progress(page)).to_have_text("Loading the conversation…")
    await page.route(CONVERSATION, abort, times=1)
    await lose_the_network(page)
    await expect(page.get_by_text("This conversation could not be loaded.")).to_be_visible()
    await expect(progress(page)).to_have_text("")
    await page.unroute_all(behavior="ignoreErrors")
    await lose_the_network(page)
    await expect(questions(page)).to_have_text(texts("apples"))
    await expect(page.get_by_role("alert")).to_be_hidden()

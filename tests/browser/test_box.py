"""The box for writing messages."""

import asyncio
import re

import pytest
from playwright.async_api import Locator, Page, expect

from tests.browser.conftest import OpenPage
from tests.browser.people import (
    begin_edit,
    button,
    count,
    message_box,
    past,
    questions,
    replies,
    send,
    send_and_see,
    send_and_wait,
)
from tests.browser.sites import Site

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_each_conversations_draft_survives_a_reload(open_site: OpenPage) -> None:
    page = await open_site()
    await send_and_wait(page, "apples")
    await message_box(page).fill("about apples")
    await button(page, "New conversation").click()
    await expect(message_box(page)).to_have_value("")
    await message_box(page).fill("something new")
    await page.reload()
    await expect(message_box(page)).to_have_value("something new")
    await past(page).click()
    await expect(message_box(page)).to_have_value("about apples")
    await page.reload()
    await expect(message_box(page)).to_have_value("about apples")
    await message_box(page).press("Enter")
    await expect(replies(page)).to_have_count(2)
    await page.reload()
    await expect(replies(page)).to_have_count(2)
    await expect(message_box(page)).to_have_value("")


async def test_an_edit_survives_another_conversation_and_a_reload(open_site: OpenPage) -> None:
    page = await open_site()
    await send_and_wait(page, "apples")
    await begin_edit(page, "apples and pears")
    await button(page, "New conversation").click()
    await expect(message_box(page)).to_have_value("")
    await page.go_back()
    await expect(message_box(page)).to_have_value("apples and pears")
    await page.reload()
    await expect(message_box(page)).to_have_value("apples and pears")
    await button(page, "Cancel editing").click()
    await page.reload()
    await expect(questions(page)).to_have_text(re.compile("^apples"))
    await expect(message_box(page)).to_have_value("")


async def test_a_page_without_locks_can_chat(open_site: OpenPage) -> None:
    page = await open_site()
    refuse = "navigator.locks.request = async () => { throw new DOMException('', 'SecurityError') }"
    await page.context.add_init_script(refuse)
    await page.reload()
    await send_and_wait(page, "apples")


async def test_a_text_that_is_too_long_is_reported_before_it_is_sent(
    site: Site, open_site: OpenPage
) -> None:
    page = await open_site()
    length = page.get_by_role("status", name="Length")
    # Counted as on the server: each of these is one character, but two in JavaScript.
    await message_box(page).fill("😀" * 8000)
    await expect(length).to_have_text("")
    await message_box(page).fill("😀" * 8002)
    await expect(length).to_have_text("2 characters too many: at most 8000 can be sent.")
    await message_box(page).press("Enter")
    await button(page, "Send").click()
    await expect(message_box(page)).to_have_value("😀" * 8002)
    assert site.agent.asked == []
    await message_box(page).fill("😀" * 8000)
    await message_box(page).press("Enter")
    await expect(replies(page)).to_contain_text("Fine.")


async def test_a_double_click_on_send_does_not_stop_the_reply(
    site: Site, open_site: OpenPage
) -> None:
    go = asyncio.Event()
    site.agent.script = ["Wait", go, " Done"]
    page = await open_site()
    await message_box(page).fill("apples")
    await button(page, "Send").dblclick()
    await expect(replies(page)).to_contain_text("Wait")
    await page.wait_for_timeout(300)
    await expect(button(page, "Stop")).to_be_visible()
    go.set()
    await expect(replies(page)).to_contain_text("Done")
    assert site.agent.asked == ["apples"]


async def test_a_double_click_on_regenerate_asks_for_one_reply(
    site: Site, open_site: OpenPage
) -> None:
    page = await open_site()
    await send_and_wait(page, "apples")
    site.agent.script = ["Sweet."]
    await button(page, "Regenerate").dblclick(delay=150)
    await expect(replies(page)).to_contain_text("Sweet.")
    await page.wait_for_timeout(300)
    assert site.agent.asked == ["apples", "apples"]


async def test_a_double_click_on_stop_does_not_send_the_draft(
    site: Site, open_site: OpenPage
) -> None:
    page = await open_site()
    await send_and_see(site, page, "apples")
    await message_box(page).fill("and pea")
    await button(page, "Stop").dblclick(delay=100)
    await expect(replies(page)).to_contain_text("Stopped.")
    await expect(message_box(page)).to_have_value("and pea")
    assert site.agent.asked == ["apples"]
    await page.wait_for_timeout(500)
    await button(page, "Send").click()
    await expect(questions(page)).to_have_count(2)


async def test_stop_works_at_once_after_enter(site: Site, open_site: OpenPage) -> None:
    site.agent.script = ["Wait", asyncio.Event()]
    page = await open_site()
    await message_box(page).fill("apples")
    # Both in one script, so that no pause in the test hides a click that is ignored.
    await message_box(page).evaluate(
        """box => {
            const enter = { key: "Enter", bubbles: true, cancelable: true };
            box.dispatchEvent(new KeyboardEvent("keydown", enter));
            document.getElementById("stop").click();
        }"""
    )
    await expect(replies(page)).to_contain_text("Stopped.")


async def compose(field: Locator, key: str) -> None:
    """Press a key that ends or drops the word that is being composed."""
    for how in ("isComposing: true", "keyCode: 229"):
        await field.evaluate(
            f"""field => field.dispatchEvent(new KeyboardEvent(
                "keydown", {{ key: "{key}", bubbles: true, cancelable: true, {how} }}
            ))"""
        )


async def test_enter_that_ends_a_composition_sends_nothing(site: Site, open_site: OpenPage) -> None:
    page = await open_site()
    await message_box(page).fill("にほん")
    await compose(message_box(page), "Enter")
    await expect(message_box(page)).to_have_value("にほん")
    await expect(questions(page)).to_have_count(0)


async def test_names_and_titles_can_be_composed(open_site: OpenPage) -> None:
    page = await open_site()
    await send_and_wait(page, "apples")
    await button(page, "Rename: apples").click()
    title = page.get_by_role("textbox", name="Title")
    await compose(title, "Escape")
    await expect(title).to_be_focused()
    await title.press("Escape")
    name = page.get_by_label("Chatting as")
    await name.focus()
    await compose(name, "Enter")
    await expect(name).to_be_focused()


async def test_a_retry_sends_what_a_failed_edit_has_become_since(open_site: OpenPage) -> None:
    page = await open_site()
    await send_and_wait(page, "apples")
    await page.route("**/chat/stream**", lambda route: route.abort())
    await button(page, "Edit and resend").click()
    await send(page, "pears")
    await expect(page.get_by_role("alert")).to_be_visible()
    await message_box(page).fill("pears and plums")
    await page.unroute_all()
    await button(page, "Retry").click()
    await expect(questions(page)).to_contain_text("pears and plums")
    await expect(questions(page)).to_have_count(1)


async def test_a_draft_that_is_too_long_is_reported_after_a_reload_too(open_site: OpenPage) -> None:
    page = await open_site()
    await message_box(page).fill("x" * 8001)
    await page.reload()
    length = page.get_by_role("status", name="Length")
    await expect(length).to_contain_text("1 character too many")


async def test_enter_on_a_touch_keyboard_makes_a_new_line(open_site: OpenPage) -> None:
    page = await open_site(has_touch=True, is_mobile=True, viewport={"width": 360, "height": 640})
    await message_box(page).press_sequentially("one")
    await message_box(page).press("Enter")
    await message_box(page).press_sequentially("two")
    await expect(message_box(page)).to_have_value("one\ntwo")
    await button(page, "Send").tap()
    await expect(replies(page)).to_contain_text("Fine.")


async def focused(page: Page) -> str:
    return str(await page.evaluate("document.activeElement.id || document.activeElement.localName"))


async def test_the_focus_is_never_lost(site: Site, open_site: OpenPage) -> None:
    go = asyncio.Event()
    site.agent.script = ["Wait", go]
    page = await open_site()
    await send(page, "apples")
    await expect(replies(page)).to_contain_text("Wait")
    await button(page, "Stop").press("Enter")
    await expect(replies(page)).to_contain_text("Stopped.")
    assert await focused(page) == "text"
    go.set()
    for name in ("Retry", "Regenerate", "Edit and resend", "Cancel editing"):
        await button(page, name).press("Enter")
        await expect(message_box(page)).to_be_focused()
        await expect(replies(page)).to_have_attribute("aria-busy", "false")
    await past(page).first.focus()
    await past(page).first.press("Enter")
    await expect(message_box(page)).to_be_focused()
    await button(page, "Delete: apples").focus()
    await page.keyboard.press("Enter")
    await page.keyboard.press("Escape")
    await expect(button(page, "Delete: apples")).to_be_focused()


async def test_a_name_that_a_program_has_filled_in_is_taken_with_enter(open_page: OpenPage) -> None:
    page = await open_page("alice")
    name = page.get_by_label("Chatting as")
    await name.evaluate("field => (field.value = 'filled-in')")
    await name.press("Enter")
    await expect(count(page)).to_have_text("Messages sent: 0")
    await expect(message_box(page)).to_be_focused()


async def test_a_vast_text_is_not_laid_out_by_its_script(open_page: OpenPage) -> None:
    """In a line of a million characters, this takes Chromium two seconds at each key."""
    page = await open_page()
    await message_box(page).fill("a" * 100_001)
    await expect(message_box(page)).to_have_css("unicode-bidi", "normal")
    await message_box(page).fill("a")
    await expect(message_box(page)).to_have_css("unicode-bidi", "plaintext")

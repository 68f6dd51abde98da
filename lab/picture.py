"""Takes the README's screenshot of the chat page of the real services with the offline model:
`CHROMIUM=/usr/bin/chromium .venv/bin/python -m lab.picture`."""

import asyncio
from pathlib import Path
from tempfile import TemporaryDirectory

from playwright.async_api import async_playwright, expect

from lab.machine import tool
from lab.stack import UNSET, running_stack
from scripts.lib.project import ROOT

_NOTE = """Please remember this:

| Count | Think | Keep |
|------:|-------|------|
| 1 | the user's messages | in one transaction |

```python
async with chat.turn(alice) as turn:  # and nobody else's
    await turn.keep(reply)
```"""
_TALKS = [["Which day is it?"], [_NOTE, "What time is it?", "What did I say first?"]]


async def main() -> None:
    with TemporaryDirectory() as folder:
        async with (
            running_stack(Path(folder), None, environment=UNSET) as system,
            async_playwright() as playwright,
            await playwright.chromium.launch(
                executable_path=tool("CHROMIUM"), args=["--no-sandbox", "--headless=new"]
            ) as browser,
        ):
            page = await browser.new_page(
                base_url=system.url, viewport={"width": 1100, "height": 760}
            )
            await page.goto("/ui/")
            for talk in _TALKS:
                await page.get_by_role("button", name="New conversation").click()
                for number, text in enumerate(talk, start=1):
                    await page.get_by_role("textbox", name="Message").fill(text)
                    await page.get_by_role("textbox", name="Message").press("Enter")
                    replies = page.get_by_role("article", name="Reply")
                    await expect(replies).to_have_count(number)
                    await expect(replies.last).to_have_attribute("aria-busy", "false")
            await page.wait_for_timeout(2000)
            await page.screenshot(path=ROOT / "docs/images/page.png")


if __name__ == "__main__":
    asyncio.run(main())

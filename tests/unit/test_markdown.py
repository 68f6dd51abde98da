import re

import pytest

from chat_service.web.markdown import render


def test_markdown_becomes_html() -> None:
    html = render("# Hi\n\n**bold** `code`\n\n| a |\n|---|\n| 1 |\n\n3. x\n\n```py\n1 < 2\n```")
    assert "<h1>Hi</h1>" in html
    assert "<strong>bold</strong> <code>code</code>" in html
    assert "<td>1</td>" in html
    assert '<ol start="3">' in html
    assert "1 &lt; 2" in html


def test_a_link_gives_its_target_no_hold_on_the_page() -> None:
    assert render("[x](https://example.com)") == (
        '<p><a href="https://example.com" rel="noopener noreferrer nofollow">x</a></p>\n'
    )


@pytest.mark.parametrize(
    "hostile",
    [
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "![x](https://spy.example/pixel.png)",
        "[x](javascript:alert(1))",
        "[x](  javascript&colon;alert(1))",
        "[x](data:text/html;base64,PHNjcmlwdD4=)",
        "<a href='javascript:alert(1)'>x</a>",
        "<svg onload=alert(1)>",
        "<iframe src=https://example.com></iframe>",
        "<style>*{display:none}</style>",
        '[x](https://e.example "onmouseover=alert(1)")',
        "`<script>`",
        "<scr<script>ipt>alert(1)</scr</script>ipt>",
        "<math><mi//xlink:href='data:x,<script>alert(1)</script>'>",
    ],
)
def test_nothing_in_it_is_active(hostile: str) -> None:
    html = render(hostile)
    tags = re.findall(r"<[^>]*>", html)
    assert not any(re.match(r"<(script|img|svg|iframe|style|math|form|input)", t) for t in tags)
    assert not any(re.search(r"\son\w+=|javascript:|data:", re.sub(r'title="[^"]*"', "", t))
                   for t in tags)  # fmt: skip

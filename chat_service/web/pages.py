"""The chat page and Swagger UI, each with a content security policy that lets in only its own."""

from base64 import b64encode
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, Header, Response
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import RedirectResponse
from fastapi.staticfiles import StaticFiles
from starlette.types import Scope
from swagger_ui_bundle import swagger_ui_path

_NOTHING_ELSE = "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
_CHAT_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self';"
    f" img-src 'self' data:; {_NOTHING_ELSE}"
)
_DOCS_POLICY = (
    "default-src 'none'; script-src 'self' 'sha256-%s'; style-src 'self';"
    f" connect-src 'self'; img-src data:; {_NOTHING_ELSE}"
)


def add_pages(app: FastAPI, max_text_length: int) -> None:
    """`/`, `/ui/` and `/docs`."""

    @app.get("/", response_model=dict[str, str])
    async def welcome(accept: Annotated[str, Header(include_in_schema=False)] = "") -> Any:
        if "text/html" in accept:  # a person's browser
            return RedirectResponse("ui/")
        return {
            "message": "Welcome to the DACA Chat Service! Access /docs for the API documentation."
        }

    @app.get("/ui/limits.json", include_in_schema=False)
    async def limits() -> dict[str, int]:
        return {"max_text_length": max_text_length}

    app.mount("/docs/parts", StaticFiles(directory=swagger_ui_path))
    app.mount("/ui", _ChatPage(directory=Path(__file__).parent.with_name("ui"), html=True))

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        # Relative, so that a proxy may offer all this below a path of its own.
        page = get_swagger_ui_html(
            openapi_url="openapi.json",
            title=app.title,
            swagger_js_url="docs/parts/swagger-ui-bundle.js",
            swagger_css_url="docs/parts/swagger-ui.css",
            swagger_favicon_url="data:,",
        )
        # Its one inline script, which starts it.
        script = bytes(page.body).partition(b"<script>")[2].partition(b"</script>")[0]
        digest = b64encode(sha256(script).digest()).decode()
        page.headers["content-security-policy"] = _DOCS_POLICY % digest
        return page


class _ChatPage(StaticFiles):
    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers["content-security-policy"] = _CHAT_POLICY
        # Revalidated at each load (a 304): a page and a script of two versions would clash.
        response.headers["cache-control"] = "no-cache"
        return response

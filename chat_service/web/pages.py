"""The chat page and Swagger UI, each with a content security policy that lets in only its own."""

from base64 import b64encode
from hashlib import sha256
from pathlib import Path

from fastapi import FastAPI, Request, Response
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.staticfiles import StaticFiles
from starlette.types import Scope

_NOTHING_ELSE = "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
_CHAT_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self';"
    f" img-src 'self' data:; {_NOTHING_ELSE}"
)
_SWAGGER = "https://cdn.jsdelivr.net/npm/swagger-ui-dist@5/"
_DOCS_POLICY = (
    f"default-src 'none'; script-src {_SWAGGER} 'sha256-%s'; style-src {_SWAGGER};"
    f" connect-src 'self'; img-src data:; {_NOTHING_ELSE}"
)


def add_pages(app: FastAPI, max_text_length: int) -> None:
    """`/ui/` and `/docs`."""

    @app.get("/ui/limits.json", include_in_schema=False)
    async def limits() -> dict[str, int]:
        return {"max_text_length": max_text_length}

    app.mount("/ui", _ChatPage(directory=Path(__file__).parent.with_name("ui"), html=True))

    @app.get("/docs", include_in_schema=False)
    async def docs(request: Request) -> Response:
        schema = request.scope.get("root_path", "") + "/openapi.json"
        page = get_swagger_ui_html(
            openapi_url=schema, title=app.title, swagger_favicon_url="data:,"
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

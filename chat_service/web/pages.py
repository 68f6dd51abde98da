"""The chat page, the OpenAPI document and Swagger UI: pages with content security policies."""

from base64 import b64encode
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, Literal, Union

from fastapi import FastAPI, Header, Response
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import JSONResponse, RedirectResponse
from fastapi.staticfiles import StaticFiles
from pydantic import Field, Json, RootModel, create_model
from starlette.types import Scope

from chat_service.web.bodies import ReplyBody
from chat_service.web.markdown import Html
from chat_service.web.problems import ErrorBody

_POLICY = (
    "default-src 'none'; script-src 'self'%s; style-src 'self'; connect-src 'self';"
    " img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_TAGS = ("chat", "conversations", "users", "v1")


def _event(name: str, data: Any) -> Any:
    fields: dict[str, Any] = {"event": Literal[name], "data": Annotated[data, Json]}
    return create_model(f"{name.capitalize()}Event", **fields)


_DATA: dict[str, Any] = {
    "delta": create_model("DeltaBody", text=str),
    "tool": create_model("ToolBody", name=str),
    "html": Html,
    "completed": ReplyBody,
    "error": ErrorBody,
}
_Event: Any = Union[tuple(map(_event, _DATA, _DATA.values()))]  # noqa: UP007 - made of a table
_StreamEvent = create_model(
    "StreamEvent",
    __base__=RootModel[Any],
    __doc__="One event of `POST /chat/stream`.",
    root=Annotated[_Event, Field(discriminator="event")],
)
_STREAM_EVENT = {"$ref": "#/components/schemas/StreamEvent"}
EVENTS: dict[int | str, dict[str, Any]] = {200: {"model": _StreamEvent}}


def add_pages(app: FastAPI, max_text_length: int) -> None:
    """`/`, `/ui/` and `/docs`. Links are relative, as a proxy may add a prefix."""

    @app.get("/", response_model=dict[str, str], responses={307: {"description": "To /ui/"}})
    async def welcome(accept: Annotated[str, Header(include_in_schema=False)] = "") -> Any:
        if "text/html" in accept:  # a person's browser
            return RedirectResponse("ui/")
        greeting = "Welcome to the DACA Chat Service! Access /docs for the API documentation."
        return {"message": greeting}

    @app.get("/ui/limits.json", include_in_schema=False)
    async def limits() -> dict[str, int]:
        return {"max_text_length": max_text_length}

    app.mount("/ui", _Files(directory=Path(__file__).parent.with_name("ui"), html=True))

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        page = get_swagger_ui_html(
            openapi_url="openapi.json", title=app.title, swagger_favicon_url="data:,",
            swagger_js_url="docs/assets/swagger-ui-bundle.js",
            swagger_css_url="docs/assets/swagger-ui.css",
        )  # fmt: skip
        # The page's one inline script, which starts Swagger UI.
        script = bytes(page.body).partition(b"<script>")[2].partition(b"</script>")[0]
        digest = b64encode(sha256(script).digest()).decode()
        page.headers["content-security-policy"] = _POLICY % f" 'sha256-{digest}'"
        return page

    app.mount("/docs/assets", _Files(packages=[("fastapi_swagger", "resources")]))

    @app.get("/openapi.json", include_in_schema=False)
    async def openapi() -> JSONResponse:
        found = app.openapi()  # always the same object
        found["tags"] = [{"name": name} for name in (*_TAGS, "service")]
        for path, item in found["paths"].items():
            tag = path.split("/")[1]
            for operation in item.values():
                operation["tags"] = [tag if tag in _TAGS else "service"]
                operation.setdefault("description", operation["summary"])
        # FastAPI describes streams as OpenAPI 3.2 does, which few tools can read yet. Generated
        # clients would read one event's schema as that of the whole body, and fail.
        stream = found["paths"]["/chat/stream"]["post"]["responses"]["200"]["content"]
        form = {"contentMediaType": "text/event-stream", "contentSchema": _STREAM_EVENT}
        stream["text/event-stream"] = {"schema": {"type": "string"} | form}
        fields = found["components"]["schemas"]["ChatBody"]["properties"]
        fields["text"] |= {"minLength": 1, "maxLength": max_text_length}
        for field in fields.values():
            if "default" in field:  # with one, generators for TypeScript make the field required
                field["examples"] = [field.pop("default")]  # Swagger UI proposes it
        return JSONResponse(found)


class _Files(StaticFiles):
    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers["content-security-policy"] = _POLICY % ""
        # Revalidated at each load (304), as a page and a script of different versions would clash.
        response.headers["cache-control"] = "no-cache"
        return response

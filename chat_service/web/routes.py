"""HTTP routes that know their caller, who can reach only their own data."""

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException, Query, Request
from fastapi.routing import APIRoute
from fastapi.security import HTTPBearer
from starlette.convertors import PathConvertor, register_url_convertor
from starlette.datastructures import Headers, MutableHeaders, QueryParams
from starlette.types import Receive, Scope, Send

from chat_service.access.admission import Admission
from chat_service.access.identity import Identity
from chat_service.turns.history import PageQuery
from chat_service.web.problems import MAX_BODY_BYTES, MAX_TITLE_BYTES
from daca_shared.domain import FOREIGN_SITES, Forbidden, InvalidInput, UserId

_JSON = r"application/([^;]+\+)?json"


def private_router(
    identity: Identity, origins: Sequence[str], admission: Admission | None = None
) -> APIRouter:
    """Routes that identify the caller before they read the body, and answer pages of these origins
    and our own. With `admission`, excess chats are refused even before that, as checking their
    tokens would add to the load."""

    class PrivateRoute(APIRoute):
        async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
            if admission:
                admission.let_come()
            headers = Headers(scope=scope)
            is_foreign = headers.get("sec-fetch-site") in FOREIGN_SITES
            if is_foreign and not {headers.get("origin"), "*"} & {*origins}:
                problem = "CHAT_CORS_ORIGINS doesn't name the origin of the page that sent this"
                raise Forbidden(problem, code="FOREIGN_ORIGIN")
            authorization = headers.getlist("authorization")
            scope.setdefault("state", {})["caller"] = await identity.caller(*authorization)
            if scope["method"] in (self.methods or ()):
                _read_as_json(scope)
            _refuse_repeated(scope)
            await super().handle(scope, receive, send)

    # Only for the API documentation: the token is checked above.
    shown = [Depends(HTTPBearer(auto_error=False))] if identity.find_keys else []
    # Other bodies hold a title at most.
    most = MAX_BODY_BYTES if admission else MAX_TITLE_BYTES
    return APIRouter(route_class=PrivateRoute, dependencies=shown, max_body_size=most)


def _read_as_json(scope: Scope) -> None:
    """Treat a body as JSON if it declares no type, or the one that `curl -d` declares. Not with an
    Origin header: browsers send such a body for a foreign page without a CORS preflight, and that
    page must not chat in its visitor's name. Raises `HTTPException` for what can't be JSON."""
    headers = MutableHeaders(scope=scope)
    # Without it FastAPI counts the body, and refuses a large one in JSON instead of plain text.
    del headers["content-length"]
    if scope["method"] not in ("POST", "PATCH"):
        return
    if headers.get("content-encoding", "").strip().lower() not in ("", "identity"):
        raise HTTPException(415, "The body must not be compressed", {"accept-encoding": "identity"})
    declared = headers.get("content-type", "").partition(";")[0].strip().lower()
    if declared in ("", "application/x-www-form-urlencoded") and "origin" not in headers:
        headers["content-type"] = "application/json"
    elif not re.fullmatch(_JSON, declared):
        raise HTTPException(415, "The body must be declared as Content-Type: application/json")


def _refuse_repeated(scope: Scope) -> None:
    """Refuses what is given twice: a proxy may have checked one value, and we would use another."""
    names = ["idempotency-key"] * len(Headers(scope=scope).getlist("idempotency-key"))
    if scope["query_string"]:
        names += [name for name, _ in QueryParams(scope["query_string"]).multi_items()]
    for name, times in Counter(names).most_common(1):
        if times > 1:
            raise InvalidInput.field(name, "is given more than once")


@asynccontextmanager
async def while_connected(request: Request) -> AsyncIterator[None]:
    """A context that is cancelled if the client leaves. A client that gives up and asks again would
    otherwise have its message answered, and counted, more than once."""
    task: Any = asyncio.current_task()

    async def watch() -> None:
        await request.receive()  # the body has been read: only a disconnect can come
        task.cancel()

    watching = asyncio.create_task(watch())
    try:
        yield
    finally:
        watching.cancel()


async def _own_id(user_id: UserId, request: Request) -> str:
    request.state.caller.must_be(user_id)
    return user_id


async def _own_page(query: Annotated[PageQuery, Query()], request: Request) -> PageQuery:
    request.state.caller.must_be(query.user_id)
    return query


OwnId = Annotated[str, Depends(_own_id)]
OwnPage = Annotated[PageQuery, Depends(_own_page)]


class Anything(PathConvertor):
    """A path parameter of any characters: an id with slashes or line feeds should be refused as a
    bad id, not as an unknown path."""

    regex = "(?s:.*)"


register_url_convertor("anything", Anything())

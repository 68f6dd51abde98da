"""HTTP routes for known callers, who reach only what is their own."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from fastapi.routing import APIRoute
from fastapi.security import HTTPBearer
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import Receive, Scope, Send

from chat_service.access.admission import Admission
from chat_service.access.identity import Identity
from chat_service.turns.history import PageQuery
from daca_shared.domain import UserId

_MAX_BODY_BYTES = 1_000_000


def private_router(identity: Identity, admission: Admission | None = None) -> APIRouter:
    """Routes that find out who calls before they read the body. With `admission`, one chat too many
    is refused even before that: when there are many, they are the load."""

    class PrivateRoute(APIRoute):
        async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
            if admission:
                admission.let_come()
            _read_as_json(scope)
            authorization = Headers(scope=scope).getlist("authorization")
            scope.setdefault("state", {})["caller"] = await identity.caller(*authorization)
            await super().handle(scope, receive, send)

    # For the API documentation; the work is done above.
    shown = [Depends(HTTPBearer(auto_error=False))] if identity.find_keys else []
    return APIRouter(route_class=PrivateRoute, dependencies=shown, max_body_size=_MAX_BODY_BYTES)


def _read_as_json(scope: Scope) -> None:
    """Take a body without a declared type, or with the one that `curl -d` declares, for JSON.
    Not with an Origin: a foreign page may send such a body without the browser's asking us first
    (no preflight), and must not chat in its visitor's name."""
    headers = MutableHeaders(scope=scope)
    # So FastAPI counts the body, and refuses a large one in JSON; by its header, in plain text.
    del headers["content-length"]
    declared = headers.get("content-type", "").partition(";")[0].strip().lower()
    if declared in ("", "application/x-www-form-urlencoded") and "origin" not in headers:
        headers["content-type"] = "application/json"


async def _own_id(user_id: UserId, request: Request) -> str:
    request.state.caller.must_be(user_id)
    return user_id


async def _own_page(query: Annotated[PageQuery, Query()], request: Request) -> PageQuery:
    request.state.caller.must_be(query.user_id)
    return query


OwnId = Annotated[str, Depends(_own_id)]
OwnPage = Annotated[PageQuery, Depends(_own_page)]

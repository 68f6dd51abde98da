"""HTTP routes that are for known callers, who get at what is theirs only."""

from collections.abc import Callable, Coroutine
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.routing import APIRoute
from fastapi.security import HTTPBearer

from chat_service.access.identity import Identity
from chat_service.turns.history import PageQuery
from chat_service.web.bodies import ChatBody
from daca_shared.domain import UserId


def private_router(identity: Identity) -> APIRouter:
    """Routes that find out who calls before anything else, even before they read the body."""

    class PrivateRoute(APIRoute):
        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            handle = super().get_route_handler()

            async def handle_known(request: Request) -> Response:
                request.state.caller = await identity.caller(request.headers.get("authorization"))
                return await handle(request)

            return handle_known

    # For the API documentation; the work is done above.
    shown = [Depends(HTTPBearer(auto_error=False))] if identity.required else []
    return APIRouter(route_class=PrivateRoute, dependencies=shown)


async def _own_id(user_id: UserId, request: Request) -> str:
    request.state.caller.must_be(user_id)
    return user_id


async def _own_page(query: Annotated[PageQuery, Query()], request: Request) -> PageQuery:
    request.state.caller.must_be(query.user_id)
    return query


async def _own_body(body: ChatBody, request: Request) -> ChatBody:
    request.state.caller.must_be(body.user_id)
    return body


OwnId = Annotated[str, Depends(_own_id)]
OwnPage = Annotated[PageQuery, Depends(_own_page)]
OwnBody = Annotated[ChatBody, Depends(_own_body)]

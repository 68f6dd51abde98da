"""HTTP headers: what all answers carry, and what a request's body is taken for."""

from fastapi import FastAPI
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# A page brings a policy of its own; nothing else is to be shown in a browser.
SECURITY_HEADERS = {
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "x-frame-options": "DENY",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}


class SecureApp(FastAPI):
    """An application whose every answer has the security headers, refusals and failures too."""

    def build_middleware_stack(self) -> ASGIApp:
        """All middleware, inside of ours."""
        app = super().build_middleware_stack()

        async def secured(scope: Scope, receive: Receive, send: Send) -> None:
            async def send_secured(message: Message) -> None:
                if message["type"] == "http.response.start":
                    headers = MutableHeaders(scope=message)
                    for name, value in SECURITY_HEADERS.items():
                        headers.setdefault(name, value)
                await send(message)

            await app(scope, receive, send_secured)

        return secured


class JsonByDefault:
    """Reads a body of no declared type, or of the one that `curl -d` declares, as JSON, and
    lets one that is too large be refused in JSON.

    Not for requests with an Origin: a foreign page may send such a body without the
    browser's asking first, and must not chat in its visitor's name.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, its content type corrected."""
        if scope["type"] == "http" and scope["method"] == "POST":
            headers = MutableHeaders(scope=scope)
            declared = headers.get("content-type", "").partition(";")[0].strip().lower()
            if declared in ("", "application/x-www-form-urlencoded") and "origin" not in headers:
                headers["content-type"] = "application/json"
            # What FastAPI counts it refuses in JSON, what is declared in plain text.
            del headers["content-length"]
        await self._app(scope, receive, send)

"""STAND-IN, to be deleted once the server renames, deletes, searches and regenerates itself: with
this file and the one call in conftest.py gone, the same tests run against the real server."""

import json
import re
from collections import defaultdict
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

from playwright.async_api import APIResponse, BrowserContext, Error, Request, Route


class StandIn:
    """Answers for one person's browser what the server can't yet."""

    def __init__(self) -> None:
        self.titles: dict[str, str] = {}
        self.deleted: set[str] = set()
        self.texts: dict[str, str] = defaultdict(str)
        self.versions: dict[str, list[str]] = {}
        """A message's id, and those under which the server really has it, the latest last."""

    async def install(self, context: BrowserContext) -> None:
        await context.route(re.compile(r"/conversations(\?|/)"), self.conversations)
        await context.route(re.compile(r"/chat/stream"), self.stream)
        await context.route(re.compile(r"/analytics\?"), self.analytics)

    async def conversations(self, route: Route, request: Request) -> None:
        url = urlsplit(request.url)
        session = url.path.rpartition("/conversations")[2].strip("/")
        if request.method == "DELETE":
            self.deleted.add(session)
            await route.fulfill(status=204)
        elif request.method == "PATCH":
            self.titles[session] = json.loads(request.post_data or "")["title"]
            await route.fulfill(json={"session_id": session, "title": self.titles[session]})
        else:
            response = await self.answer(route)
            body = await response.json() if response else None
            if body is None or "detail" in body:
                await (route.fulfill(response=response) if response else route.abort())
                return
            words = parse_qs(url.query).get("filter", [""])[0].lower()
            (self.in_one if session else self.in_list)(body, session or words)
            await route.fulfill(response=response, json=body)

    def in_list(self, body: dict[str, Any], words: str) -> None:
        found = [one for one in body["conversations"] if one["session_id"] not in self.deleted]
        for one in found:
            one["title"] = self.titles.get(one["session_id"], one["title"])
        body["conversations"] = [
            one for one in found if words in (one["title"] + self.texts[one["session_id"]]).lower()
        ]

    def in_one(self, body: dict[str, Any], session: str) -> None:
        places = {actual: (first, ids) for first, ids in self.versions.items() for actual in ids}
        kept = []
        for message in [] if session in self.deleted else body["messages"]:
            first, ids = places.get(message["message_id"], (message["message_id"], None))
            # Until the new version is kept, the old one stays.
            if ids and message["message_id"] != self.latest(ids, body):
                continue
            kept.append({**message, "message_id": first})
        body["messages"] = kept

    def latest(self, ids: list[str], body: dict[str, Any]) -> str:
        present = {message["message_id"] for message in body["messages"]}
        return [one for one in ids if one in present][-1]

    async def stream(self, route: Route, request: Request) -> None:
        body = json.loads(request.post_data or "")
        self.texts[body["metadata"]["session_id"]] += body["text"]
        if body.pop("regenerate", False):
            first = body["message_id"]
            body["message_id"] = str(uuid4())
            self.versions.setdefault(first, [first]).append(body["message_id"])
        await route.continue_(post_data=json.dumps(body))

    async def analytics(self, route: Route) -> None:
        if not (response := await self.answer(route)):
            await route.abort()
            return
        body = await response.json()
        if "message_count" in body:
            body["message_count"] -= sum(len(ids) - 1 for ids in self.versions.values())
        await route.fulfill(response=response, json=body)

    async def answer(self, route: Route) -> APIResponse | None:
        try:
            return await route.fetch()
        except Error:
            return None  # the service is away

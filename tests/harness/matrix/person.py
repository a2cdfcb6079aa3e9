"""Somebody with a Matrix client: plain HTTP, so that what hermesd sends is not judged by hermesd's own library."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from .http import Http

V3 = "/_matrix/client/v3"
CURSOR = "\u2589"
"""What an answer ends with that is still being written."""

Event = dict[str, Any]


class Person:
    """Reads by /sync: ``events`` holds what each room has shown since the first `look`. One thread at a time."""

    def __init__(self, url: str, user_id: str, token: str, device_id: str = ""):
        self.user_id = user_id
        self.token = token
        self.device_id = device_id
        self.password = ""
        self.events: dict[str, list[Event]] = {}
        self.typing: dict[str, list[str]] = {}
        self.receipts: dict[str, dict[str, Any]] = {}
        self._since = ""
        self._http = Http(url, token)
        self.call = self._http.json

    def close(self) -> None:
        self._http.close()

    # ---- writing -----------------------------------------------------------------------------------------------------

    def create_room(
        self, *invited: str, direct: bool = False, name: str = "", encrypted: bool = False, public: bool = False
    ) -> str:
        state = []
        if encrypted:
            content = {"algorithm": "m.megolm.v1.aes-sha2"}
            state.append({"type": "m.room.encryption", "state_key": "", "content": content})
        preset = "public_chat" if public else "trusted_private_chat"
        room = self.call("POST", f"{V3}/createRoom", {
            "preset": preset, "invite": list(invited), "is_direct": direct, "initial_state": state,
            **({"name": name} if name else {}),
        })["room_id"]  # fmt: skip
        return str(room)

    def join(self, room: str) -> None:
        self.call("POST", f"{V3}/join/{room}", {})

    def invite(self, room: str, user: str) -> None:
        self.call("POST", f"{V3}/rooms/{room}/invite", {"user_id": user})

    def say(self, room: str, text: str, *, thread: str = "", mention: str = "", txn: str = "", **content: Any) -> str:
        """A message; returns its event's id. ``content`` goes over what is made of the rest."""
        made: dict[str, Any] = {"msgtype": "m.text", "body": text}
        if thread:
            made["m.relates_to"] = {"rel_type": "m.thread", "event_id": thread}
        if mention:
            made["m.mentions"] = {"user_ids": [mention]}
        return self.put(room, "m.room.message", {**made, **content}, txn=txn)

    def put(self, room: str, kind: str, content: Mapping[str, Any], *, txn: str = "") -> str:
        place = f"{V3}/rooms/{room}/send/{kind}/{txn or uuid.uuid4().hex}"
        return str(self.call("PUT", place, dict(content))["event_id"])

    def react(self, room: str, event: str, key: str) -> str:
        relation = {"rel_type": "m.annotation", "event_id": event, "key": key}
        return self.put(room, "m.reaction", {"m.relates_to": relation})

    def upload(self, data: bytes, mime: str, name: str) -> str:
        answer, _ = self._http.raw("POST", "/_matrix/media/v3/upload", data, mime, filename=name)
        return str(json.loads(answer)["content_uri"])

    def download(self, mxc: str) -> tuple[bytes, str]:
        """The bytes and their MIME type."""
        return self._http.raw("GET", f"/_matrix/client/v1/media/download/{mxc.removeprefix('mxc://')}")

    # ---- reading -----------------------------------------------------------------------------------------------------

    def look(self, seconds: float = 0.0) -> None:
        """One /sync: what is new, or what comes first within this time."""
        limits = '{"room":{"timeline":{"limit":1000}},"presence":{"not_types":["*"]}}'
        parameters = {"timeout": int(seconds * 1000), "filter": limits}
        if self._since:
            parameters["since"] = self._since
        answer = self.call("GET", f"{V3}/sync", **parameters)
        self._since = answer["next_batch"]
        for room, found in answer.get("rooms", {}).get("join", {}).items():
            self.events.setdefault(room, []).extend(found.get("timeline", {}).get("events", []))
            for event in found.get("ephemeral", {}).get("events", []):
                if event["type"] == "m.typing":
                    self.typing[room] = event["content"]["user_ids"]
                elif event["type"] == "m.receipt":
                    self.receipts.setdefault(room, {}).update(event["content"])

    def wait(self, condition: Callable[[], Any], seconds: float = 40.0, *, what: str = "") -> Any:
        """What ``condition`` gives, once that is true; it is asked again whenever something new has come."""
        until = time.monotonic() + seconds
        self.look()
        while not (found := condition()):
            left = until - time.monotonic()
            assert left > 0, f"{self.user_id} did not see it within {seconds} s: {what or condition}"
            self.look(min(left, 5.0))
        return found

    def messages(self, room: str, sender: str = "") -> list[Event]:
        """Messages as they read by now, edited and without those taken back; of one sender, or of all."""
        shown: dict[str, Event] = {}
        for event in self.events.get(room, ()):
            if event["type"] == "m.room.redaction":
                shown.pop(event.get("redacts") or event["content"].get("redacts", ""), None)
            if event["type"] not in ("m.room.message", "m.sticker") or (sender and event["sender"] != sender):
                continue
            relation = event.get("content", {}).get("m.relates_to", {})
            if relation.get("rel_type") != "m.replace":
                shown[event["event_id"]] = event
            elif (edited := shown.get(relation["event_id"])) is not None and edited["sender"] == event["sender"]:
                kept = {key: value for key, value in edited["content"].items() if key == "m.relates_to"}
                content = {**event["content"]["m.new_content"], **kept}
                shown[edited["event_id"]] = {**edited, "content": content}
        return list(shown.values())

    def answers(self, room: str, to: str, sender: str) -> list[Event]:
        """What ``sender`` has answered to one message, by its reply relation."""
        return [
            event
            for event in self.messages(room, sender)
            if event["content"].get("m.relates_to", {}).get("m.in_reply_to", {}).get("event_id") == to
        ]

    def wait_answer(self, room: str, to: str, sender: str, seconds: float = 40.0) -> Event:
        """The first answer that is not being written any more."""

        def whole() -> list[Event]:
            return [one for one in self.answers(room, to, sender) if not str(one["content"]["body"]).endswith(CURSOR)]

        return dict(self.wait(whole, seconds, what=f"an answer to {to}")[0])

    def event(self, room: str, event: str) -> Event:
        """As the server has it now."""
        return dict(self.call("GET", f"{V3}/rooms/{room}/event/{event}"))

"""Messages and files between a chat and hermes-agent: what it gets of a turn, and what ``send_message`` sends."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hermesd.ipc.messages import File
from hermesd.workers.agents.contract import Session

from . import library

log = logging.getLogger("hermesd.hermes")


def received(text: Any, files: Sequence[File], config: Mapping[str, Any], agent: Any) -> Any:
    """A user's message for ``run_conversation``: images as the model takes them, every other file by its path."""
    if not files:
        return text
    images = [file for file in files if file.mime.startswith("image/")]
    parts = _native(text, images, config, agent) if images else None
    named = [file for file in files if parts is None or file not in images]
    notes = "".join(f"\n\n[The user sent a file: {file.name} ({file.mime}), at {file.path}]" for file in named)
    if parts is None:
        return f"{text}{notes}".strip()
    return [*parts, {"type": "text", "text": notes.strip()}] if notes else parts


def _native(text: str, images: Sequence[File], config: Mapping[str, Any], agent: Any) -> list[dict[str, Any]] | None:
    """None where the model does not see: it has a tool that looks at files."""
    decide = library.function("agent.image_routing", "decide_image_input_mode")
    build = library.function("agent.image_routing", "build_native_content_parts")
    if decide is None or build is None or decide(agent.provider, agent.model, dict(config)) != "native":
        return None
    parts, skipped = build(text, [file.path for file in images])
    if skipped:
        log.warning("%d images could not be read", len(skipped))
    return parts if any(part.get("type") == "image_url" for part in parts) else None


def send(arguments: Mapping[str, Any], session: Session, post: Callable[[str, str], Any]) -> dict[str, Any]:
    """The tool ``send_message``, as hermes-agent's own answers: JSON with ``success`` or ``error``.

    ``post(target, text)`` returns once hermesd has the message on disk; ``MEDIA:`` in it is hermesd's to send.
    """
    action = str(arguments.get("action") or "send")
    if action == "list":
        return {"targets": _targets(session)}
    if action != "send":
        return {"error": f"{action} is not possible here"}
    target, message = str(arguments.get("target") or "").strip(), str(arguments.get("message") or "")
    if not target or not message:
        return {"error": "Both 'target' and 'message' are required when action='send'"}
    try:
        place = place_of(target, session)
    except LookupError as error:
        return {"error": str(error)}
    try:
        post(place, message)
    except Exception as error:  # noqa: BLE001 - of the wire or the worker: the model is told, the run goes on
        return {"error": f"Send failed: {error}"}
    platform, _, chat = (place or f"{session.platform}:{session.chat}").partition(":")
    return {"success": True, "platform": platform, "chat_id": chat, "note": "hermesd has it and delivers it"}


def place_of(target: str, session: Session) -> str:
    """``platform:chat[:thread]`` as hermesd takes it, "" for the chat of this session. Raises LookupError."""
    platform, _, chat = target.partition(":")
    platform, chat = platform.strip().lower(), chat.strip()
    if platform == session.platform and chat in ("", session.chat):
        return ""
    if not chat:
        raise LookupError(
            f"No chat given: write {platform}:CHAT; send_message(action='list') shows those that are known"
        )
    resolve = library.function("gateway.channel_directory", "resolve_channel_name")
    if resolve is not None and (found := resolve(platform, chat)):
        chat = str(found)
    return f"{platform}:{chat}"


def _targets(session: Session) -> str:
    here = f"{session.platform}:{session.chat} (this conversation)"
    shown = library.function("gateway.channel_directory", "format_directory_for_display")
    try:
        return f"{here}\n{shown()}" if shown is not None else here
    except Exception:  # a directory of channels that hermes-agent cannot read
        log.warning("cannot read hermes-agent's directory of channels", exc_info=True)
        return here

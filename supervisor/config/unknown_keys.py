"""Warns of keys that nothing reads, with the known key that was probably meant."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import UnionType
from typing import Any, get_args

from pydantic import BaseModel

from .document import Document, KeyPath
from .errors import Origin, Problem, nearest
from .settings import WEBHOOK_KEYS, Agent, Approvals, Model, Platform, Settings

# Keys of hermes-agent that hermesd leaves to it: no warning, and no meaning here.
_HERMES: Mapping[KeyPath, frozenset[str]] = {
    ("streaming",): frozenset({"transport", "fresh_final_after_seconds"}),
    ("platforms", "*"): frozenset({"gateway_restart_notification", "unauthorized_dm_behavior"}),
    ("platforms", "webhook"): frozenset({*WEBHOOK_KEYS, "gateway_restart_notification"}),
    ("mcp_servers", "*"): frozenset(
        {"lifecycle", "elicitation", "skip_preflight", "supports_parallel_tool_calls", "description"}
    ),
}  # fmt: skip
_SHARED: Mapping[type[BaseModel], frozenset[str]] = {
    Agent: frozenset({"service_tier", "personalities", "verbose", "max_iterations", "tool_delay"}),
    Model: frozenset({"model", "api_mode", "max_tokens", "temperature", "extra_body"}),
    Approvals: frozenset({"mode", "gateway_timeout", "cron_mode"}),
}
"""Sections that are hermes-agent's and have keys for us: only a near miss of one of these is worth a word."""
_HERMES_TOP = frozenset(
    {
        "always_log_local", "auxiliary", "checkpoints", "command_allowlist", "compression",
        "custom_providers", "dingtalk", "discord", "display", "email", "feishu",
        "homeassistant", "matrix", "mattermost", "platform_toolsets", "prefill_messages_file", "privacy",
        "provider_routing", "quick_commands", "reset_triggers", "security", "signal", "skills", "slack", "sms",
        "smart_model_routing", "stt", "telegram", "terminal", "timezone", "toolsets", "tts",
        "unauthorized_dm_behavior", "wecom", "weixin", "whatsapp",
    }
)  # fmt: skip


def unknown_keys(document: Document) -> list[Problem]:
    """A warning for each key of our sections that is not known there.

    At the top level everything is accepted, since the file is hermes-agent's too; only a near miss of one of our own
    sections is worth a word.
    """
    sections = {name for name in _fields(Settings) if name != "access"}
    found = []
    for key in document.values:
        meant = nearest(key, sections)
        if key not in sections and key not in _HERMES_TOP and meant:
            found.append(_warning((key,), meant, document))
    for name, annotation in _fields(Settings).items():
        if annotation in _SHARED:
            found += _near_misses(document.values.get(name), annotation, name, document)
            continue
        found += _walk(document.values.get(name), annotation, (name,), document)
    return found


def _near_misses(value: Any, model: type[BaseModel], name: str, document: Document) -> Iterator[Problem]:
    fields = _fields(model)
    for key in value if isinstance(value, dict) else ():
        if key not in fields and key not in _SHARED[model] and (meant := nearest(key, fields)):
            yield _warning((name, key), meant, document)


def _walk(value: Any, annotation: Any, path: KeyPath, document: Document) -> Iterator[Problem]:
    if not isinstance(value, dict):
        return
    model = _model(annotation)
    if model is not None:
        fields = _fields(model)
        silent = _HERMES.get(path) or _HERMES.get((path[0], "*") if len(path) == 2 else path, frozenset())
        for key, inner in value.items():
            if key in fields:
                yield from _walk(inner, fields[key], (*path, key), document)
            elif key not in silent:
                hint = "settings of the platform's own go under extra:" if model is Platform else ""
                yield _warning((*path, key), nearest(key, fields), document, hint)
        return
    arguments = get_args(annotation)
    if len(arguments) == 2 and _model(arguments[1]) is not None:  # dict[str, Section]
        for key, inner in value.items():
            yield from _walk(inner, arguments[1], (*path, key), document)


def _fields(model: type[BaseModel]) -> dict[str, Any]:
    return {info.alias or name: info.annotation for name, info in model.model_fields.items()}


def _model(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if isinstance(annotation, UnionType):
        return next((found for part in get_args(annotation) if (found := _model(part))), None)
    return None


def _warning(path: KeyPath, meant: str | None, document: Document, hint: str = "") -> Problem:
    fix = f"did you mean {meant}?" if meant else hint or "remove it, or look up its name"
    return Problem(
        ".".join(map(str, path)), "is not a known key and has no effect", fix, document.keys.get(path, Origin())
    )

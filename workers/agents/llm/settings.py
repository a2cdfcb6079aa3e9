"""What the configuration says for this agent, as `hermesd.supervisor.config.models` writes it down for each turn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from hermesd.workers.errors import TurnFailed

SYSTEM_PROMPT = (
    "You are a helpful assistant that people talk to in a chat. Answer in the language of the message, and briefly "
    "unless more is asked for. Use the tools you have been given when they help, and say so when one of them fails."
)

NO_KEY = "no-key"
"""Sent where no key is configured: the SDK insists on one, and servers on one's own machine do not look at it."""


@dataclass(frozen=True, slots=True)
class Model:
    """A model and where it is reached. ``context_length`` in tokens, 0 = not configured."""

    name: str
    base_url: str
    api_key: str = field(default=NO_KEY, repr=False)
    context_length: int = 0

    @property
    def place(self) -> str:
        """Host and port, as error messages name the endpoint."""
        return urlsplit(self.base_url).netloc.rpartition("@")[2] or self.base_url


@dataclass(frozen=True, slots=True)
class Settings:
    """``models``: the primary, then those that stand in for it. ``ask_seconds``: how long an approval is waited for."""

    models: tuple[Model, ...]
    system_prompt: str = SYSTEM_PROMPT
    max_steps: int = 90
    reasoning_effort: str = ""
    ask_before: tuple[str, ...] = ()
    ask_seconds: float = 300.0


def read(config: Mapping[str, Any]) -> Settings:
    """Raises `TurnFailed` where there is no model, as under a hermesd that was told of none."""
    models = tuple(
        Model(found["name"], found["base_url"], found.get("api_key") or NO_KEY, found.get("context_length") or 0)
        for found in config.get("models", ())
    )
    if not models:
        raise TurnFailed("no model is configured: set model: in config.yaml, then hermesctl reload")
    return Settings(
        models=models,
        system_prompt=config.get("system_prompt") or SYSTEM_PROMPT,
        max_steps=config.get("max_turns") or 90,
        reasoning_effort=config.get("reasoning_effort") or "",
        ask_before=tuple(config.get("ask_before", ())),
        ask_seconds=config.get("ask_seconds") or 300.0,
    )

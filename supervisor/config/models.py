"""The model that the agent ``llm`` talks to: from Hermes' sections of the configuration to what its workers are told.

The names of providers, and the variables that their keys are in, are hermes-agent's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from .document import KeyPath
from .environment import unresolved
from .settings import Model, Settings

AGENT = "llm"


@dataclass(frozen=True, slots=True)
class Provider:
    """``keys``: environment variables, the first that is set counts; none = the endpoint asks for no key."""

    base_url: str
    keys: tuple[str, ...] = ()


PROVIDERS: Mapping[str, Provider] = {
    "openai": Provider("https://api.openai.com/v1", ("OPENAI_API_KEY",)),
    "openrouter": Provider("https://openrouter.ai/api/v1", ("OPENROUTER_API_KEY",)),
    "anthropic": Provider("https://api.anthropic.com/v1", ("ANTHROPIC_API_KEY",)),
    "gemini": Provider("https://generativelanguage.googleapis.com/v1beta/openai", ("GEMINI_API_KEY", "GOOGLE_API_KEY")),
    "deepseek": Provider("https://api.deepseek.com/v1", ("DEEPSEEK_API_KEY",)),
    "groq": Provider("https://api.groq.com/openai/v1", ("GROQ_API_KEY",)),
    "mistral": Provider("https://api.mistral.ai/v1", ("MISTRAL_API_KEY",)),
    "xai": Provider("https://api.x.ai/v1", ("XAI_API_KEY",)),
    "together": Provider("https://api.together.xyz/v1", ("TOGETHER_API_KEY",)),
    "ollama": Provider("http://127.0.0.1:11434/v1"),
    "lmstudio": Provider("http://127.0.0.1:1234/v1"),
}

ANY = frozenset({"", "auto", "custom"})
"""Names of a provider that is told by its ``base_url`` alone."""


@dataclass(frozen=True, slots=True)
class Wrong:
    """What keeps the agent from working; ``warning`` only: it may work."""

    path: KeyPath
    message: str
    fix: str
    warning: bool = False


def models_of(settings: Settings) -> Iterator[tuple[KeyPath, Model]]:
    """The primary, then those that stand in for it, each with its place in the configuration."""
    yield ("model",), settings.model
    for number, model in enumerate(settings.fallback_providers):
        yield ("fallback_providers", number), model
    for number, model in enumerate(settings.fallback_model):
        yield ("fallback_model", *([number] if len(settings.fallback_model) > 1 else [])), model


def base_url_of(model: Model) -> str:
    """ "" where nothing tells."""
    known = PROVIDERS.get(model.provider.lower())
    if not model.base_url and model.provider.lower() in ANY - {"custom"}:
        known = PROVIDERS["openai"]
    return model.base_url or (known.base_url if known is not None else "")


def key_of(model: Model, environ: Mapping[str, str]) -> str:
    """The configured key, else the provider's variable; a key goes to no other host than its provider's."""
    if model.api_key and not unresolved(model.api_key):
        return model.api_key
    found = (environ.get(name, "") for name in _key_names(model))
    return next(filter(None, found), "")


def agent_config(settings: Settings, environ: Mapping[str, str]) -> dict[str, Any]:
    """What a worker with the agent ``llm`` is told with each turn; of no other agent's concern, keys least of all."""
    if settings.hermesd.agent != AGENT:
        return {}
    return {
        "models": [
            {
                "name": model.default,
                "base_url": base_url_of(model),
                "api_key": key_of(model, environ),
                "context_length": model.context_length,
            }
            for _, model in models_of(settings)
        ],
        "system_prompt": settings.agent.system_prompt,
        "max_turns": settings.agent.max_turns,
        "reasoning_effort": settings.agent.reasoning_effort,
        "ask_before": list(settings.approvals.tools),
        "ask_seconds": settings.approvals.timeout_seconds,
    }


def wrong_with(settings: Settings, environ: Mapping[str, str]) -> Iterator[Wrong]:
    """Of a configuration whose agent is ``llm``."""
    for path, model in models_of(settings):
        if not model.default:
            yield Wrong(path, "names no model", "write model: {default: NAME, base_url: https://HOST/v1, api_key: ...}")
        url = base_url_of(model)
        if not url:
            known = ", ".join(sorted(PROVIDERS))
            message = f'nothing tells where the provider "{model.provider}" is reached'
            yield Wrong((*path, "provider"), message, f"add base_url: https://HOST/v1, or use one of: {known}")
        elif not url.startswith(("http://", "https://")):
            yield Wrong((*path, "base_url"), "is not an address", "write it as https://HOST/v1")
        names = _key_names(model)
        for name in unresolved(model.api_key):
            fix = f"set {name} in the environment or in .env"
            yield Wrong((*path, "api_key"), f'"{name}" is not set', fix, warning=True)
        if names and not model.api_key and not key_of(model, environ):
            fix = f"set {names[0]} in the environment or in .env, or {'.'.join(map(str, path))}.api_key"
            yield Wrong(path, "has no key", fix, warning=True)


def _key_names(model: Model) -> tuple[str, ...]:
    """Of the provider that is behind the address: a variable's key must not be sent to whoever ``base_url`` names."""
    url = base_url_of(model).rstrip("/")
    return next((provider.keys for provider in PROVIDERS.values() if provider.base_url == url), ())

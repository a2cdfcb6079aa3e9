"""hermes-agent itself, as far as we use it, and the differences between its versions.

Importing it reads ``HERMES_HOME``, which is the view that the supervisor has written. It starts no thread (0.13, 0.19),
so that the keeper may import it ahead; what only some versions have is looked up when it is wanted.
"""

from __future__ import annotations

import importlib
import inspect
import logging
import os
from collections.abc import Callable, Mapping
from typing import Any

import run_agent
from hermes_cli.config import load_config
from hermes_cli.runtime_provider import resolve_runtime_provider
from hermes_cli.tools_config import _get_platform_tools
from tools import approval
from tools.registry import registry

from hermesd.workers.errors import TurnFailed

__all__ = ["accepted", "approval", "configuration", "function", "registry", "run_agent"]

log = logging.getLogger("hermesd.hermes")

DEFAULT_PLATFORM = "cli"
"""Whose tools a chat gets that hermes-agent does not know: the terminal's, and hermesd's own ways in."""

DEFAULT_TURNS = 90


def accepted(function: Callable[..., Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """The keyword arguments that this version of a function takes."""
    parameters = inspect.signature(function).parameters
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values()):
        return dict(wanted)
    return {name: value for name, value in wanted.items() if name in parameters}


def function(module: str, name: str) -> Any:
    """A function that not every version has, else None."""
    try:
        return getattr(importlib.import_module(module), name, None)
    except ImportError:
        return None


def configuration() -> dict[str, Any]:
    """``config.yaml`` of the view over hermes-agent's defaults, as it is now."""
    found = load_config()
    return found if isinstance(found, dict) else {}


def constructor(config: Mapping[str, Any], platform: str) -> dict[str, Any]:
    """What the configuration says for the next AIAgent: the model and where it is, tools, limits.

    Raises `TurnFailed` with hermes-agent's own words where no provider can be had.
    """
    agent = _section(config, "agent")
    routing = _section(config, "provider_routing")
    effort = function("hermes_constants", "parse_reasoning_effort")
    return {
        "model": model_of(config),
        **_runtime(),
        "max_iterations": _number(agent.get("max_turns"), DEFAULT_TURNS),
        "ephemeral_system_prompt": agent.get("system_prompt") or None,
        "reasoning_config": effort(str(agent.get("reasoning_effort") or "")) if effort is not None else None,
        "service_tier": agent.get("service_tier") or None,
        "fallback_model": _fallbacks(config) or None,
        "providers_allowed": routing.get("only"),
        "providers_ignored": routing.get("ignore"),
        "providers_order": routing.get("order"),
        "provider_sort": routing.get("sort"),
        "provider_require_parameters": bool(routing.get("require_parameters", False)),
        "provider_data_collection": routing.get("data_collection"),
        "checkpoints_enabled": bool(_section(config, "checkpoints").get("enabled", False)),
        "enabled_toolsets": toolsets(config, platform),
        "disabled_toolsets": [str(name) for name in agent.get("disabled_toolsets") or ()] or None,
    }


def toolsets(config: Mapping[str, Any], platform: str) -> list[str]:
    """hermes-agent's own for this platform. Without its search in old sessions: those are hermesd's."""
    known = function("hermes_cli.tools_config", "PLATFORMS") or {}
    name = platform if platform in known else DEFAULT_PLATFORM
    found = _get_platform_tools(
        dict(config), name, **accepted(_get_platform_tools, {"include_default_mcp_servers": False})
    )
    return sorted(set(found) - {"session_search"})


def model_of(config: Mapping[str, Any]) -> str:
    model = config.get("model")
    if isinstance(model, dict):
        model = model.get("default") or model.get("model")
    return str(model or "")


def bridge_terminal(config: Mapping[str, Any], directory: str) -> None:
    """hermes-agent's terminal reads the environment, and its gateway puts the configuration there."""
    terminal = _section(config, "terminal")
    bridge = function("hermes_cli.config", "apply_terminal_config_to_env")
    if bridge is not None:
        bridge(**accepted(bridge, {"env": os.environ, "config": dict(config)}))
    names = {"backend": "TERMINAL_ENV", "timeout": "TERMINAL_TIMEOUT", "lifetime_seconds": "TERMINAL_LIFETIME_SECONDS"}
    for key, name in names.items() if bridge is None else ():
        value = terminal.get(key)
        if key != "cwd" and isinstance(value, str | int | float) and str(value) != "":
            os.environ[name] = str(value)
    given = str(terminal.get("cwd") or "")
    os.environ["TERMINAL_CWD"] = os.path.expanduser(given) if given not in ("", ".", "auto", "cwd") else directory


def _runtime() -> dict[str, Any]:
    try:
        runtime = resolve_runtime_provider()
    except Exception as error:  # hermes-agent's own, from many places: its text is for the user
        explain = function("hermes_cli.runtime_provider", "format_runtime_provider_error")
        raise TurnFailed(f"no model can be asked: {explain(error) if explain is not None else error}") from error
    taken = ("api_key", "base_url", "provider", "api_mode", "command", "args", "credential_pool")
    return {name: runtime[name] for name in taken if runtime.get(name) is not None}


def _fallbacks(config: Mapping[str, Any]) -> list[dict[str, Any]]:
    chain = function("hermes_cli.fallback_config", "get_fallback_chain")
    if chain is not None:
        return list(chain(dict(config)))
    found = config.get("fallback_providers") or config.get("fallback_model") or []
    return [one for one in (found if isinstance(found, list) else [found]) if isinstance(one, dict)]


def _section(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = config.get(name)
    return found if isinstance(found, dict) else {}


def _number(value: Any, otherwise: int) -> int:
    try:
        return int(value)
    except (TypeError, ValueError):
        return otherwise

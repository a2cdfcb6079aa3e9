"""The home that the agent ``hermes`` sees: hermes-agent's own files without what is the supervisor's.

hermes-agent finds everything below ``HERMES_HOME``: configuration, keys, memories, skills, jobs. Its workers get a view
of the home, a directory of hermesd's own: links to what is the agent's, and ``config.yaml`` and ``.env`` with what is
on two allow-lists. Platform tokens are on neither, nor is ``mcp_servers``, so that hermes-agent starts no server by
itself.
"""

from __future__ import annotations

import contextlib
import fnmatch
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from hermesd.ipc.redaction import names_a_secret
from hermesd.supervisor.config.environment import interpolate
from hermesd.supervisor.config.loader import Loaded
from hermesd.supervisor.config.models import PROVIDERS
from hermesd.supervisor.errors import StartFailed

AGENT = "hermes"

# fmt: off
DIRECTORIES = ("cron", "memories", "plugins", "scripts", "skills", "skins")
FILES = ("AGENTS.md", "SOUL.md", "auth.json", "channel_directory.json")
"""What of the home is linked. Databases, logs and caches of hermes-agent are the view's own."""

SECTIONS = frozenset({
    "_config_version", "agent", "approvals", "auxiliary", "bedrock", "browser", "checkpoints", "code_execution",
    "command_allowlist", "compression", "context", "context_file_max_chars", "credential_pool_strategies", "cron",
    "curator", "custom_providers", "delegation", "display", "fallback_model", "fallback_providers",
    "file_read_max_chars", "goals", "honcho", "hooks", "hooks_auto_accept", "lsp", "memory", "moa", "model",
    "model_catalog", "network", "openrouter", "personalities", "platform_hints", "platform_toolsets", "plugins",
    "prefill_messages_file", "privacy", "prompt_caching", "provider_routing", "providers", "security", "skills",
    "smart_model_routing", "stt", "terminal", "timezone", "tool_loop_guardrails", "tool_output", "tools", "toolsets",
    "tts", "vertex", "web", "x_search",
})
"""Top-level keys of ``config.yaml`` that are about the agent. ``secrets`` is not: it fetches whole vaults into the
environment, platform tokens with them."""

PLATFORMS = (
    "API_SERVER", "BLUEBUBBLES", "DINGTALK", "DISCORD", "EMAIL", "FEISHU", "GATEWAY", "GOOGLE_CHAT", "HASS", "IRC",
    "LARK", "LINE", "MATRIX", "MATTERMOST", "MSGRAPH", "NTFY", "PHOTON", "QQ", "SIGNAL", "SIMPLEX", "SLACK", "SMS",
    "TEAMS", "TELEGRAM", "TWILIO", "WEBHOOK", "WECOM", "WEIXIN", "WHATSAPP", "XMPP", "YUANBAO", "ZULIP",
)
"""What variables of platforms begin with, hermes-agent's and ours."""

KEYS = (
    "*_API_KEY", "*_BASE_URL", "AWS_*", "FAL_KEY", "HERMES_*", "HF_TOKEN", "TERMINAL_*",
    *{name for provider in PROVIDERS.values() for name in provider.keys},
)
"""Variables that are the agent's besides ``hermesd.workers.env``: keys of models and of what its tools ask."""
# fmt: on


def is_platforms(name: str) -> bool:
    """Whether a variable belongs to a platform, and so to the supervisor alone."""
    return name.removeprefix("HERMES_").startswith(tuple(f"{platform}_" for platform in PLATFORMS))


def variables(environ: Mapping[str, str], more: Iterable[str]) -> dict[str, str]:
    """The variables that the agent may see. ``more``: names and globs of ``hermesd.workers.env``, which say what they
    mean: a platform's variable is let through by its whole name only.
    """
    more = tuple(more)
    found = {}
    for name, value in environ.items():
        ours = any(fnmatch.fnmatchcase(name, glob) for glob in (*KEYS, *more)) and not is_platforms(name)
        # HERMES_* are settings; a secret among them is somebody else's.
        if name.startswith("HERMES_") and (names_a_secret(name) or name == "HERMES_HOME"):
            ours = False
        if ours or name in more:
            found[name] = value
    return found


def configuration(raw: Mapping[str, Any], environ: Mapping[str, str], *, approval_seconds: float) -> dict[str, Any]:
    """``config.yaml`` as the agent sees it. References to platforms' variables stay references, and name nothing."""
    known = {name: value for name, value in environ.items() if not is_platforms(name)}
    seen: dict[str, Any] = interpolate({key: raw[key] for key in raw if key in SECTIONS}, known)
    approvals = seen.get("approvals")
    # Ours may be written as "5m"; hermes-agent knows numbers, and older versions the other name.
    seconds = int(approval_seconds)
    given = approvals if isinstance(approvals, dict) else {}
    seen["approvals"] = {**given, "timeout": seconds, "gateway_timeout": seconds}
    return seen


def write(loaded: Loaded, home: Path, view: Path) -> None:
    """Make the view what the configuration says: at each start and reload, while workers may read it.

    Raises `StartFailed` where it cannot be written; then the files that are there stay whole.
    """
    try:
        view.mkdir(mode=0o700, parents=True, exist_ok=True)
        view.chmod(0o700)
        _link(home, view)
        ours = loaded.settings.hermesd
        seen = configuration(loaded.raw, loaded.environ, approval_seconds=loaded.settings.approvals.timeout_seconds)
        allowed = _allowed(view / "config.yaml") | {str(one) for one in seen.get("command_allowlist") or ()}
        if allowed:
            seen["command_allowlist"] = sorted(allowed)
        _replace(view / "config.yaml", json.dumps(seen, ensure_ascii=False, indent=2, default=str) + "\n")
        lines = (f"{name}={_quoted(value)}\n" for name, value in variables(loaded.environ, ours.workers.env).items())
        _replace(view / ".env", "".join(lines))
    except OSError as error:
        raise StartFailed(f"cannot write the agent's view of the home, {view}: {error}") from error


def _link(home: Path, view: Path) -> None:
    for name in DIRECTORIES:
        if name in ("cron", "memories", "skills"):  # the agent writes there, and it must be into the home
            (home / name).mkdir(mode=0o700, exist_ok=True)
    for name in (*DIRECTORIES, *FILES):
        place = view / name
        if (home / name).exists():
            if place.is_symlink() and os.readlink(place) == str(home / name):
                continue
            if not place.exists() or place.is_symlink():
                place.unlink(missing_ok=True)
                place.symlink_to(home / name)
        elif place.is_symlink():
            place.unlink()


def _allowed(path: Path) -> set[str]:
    """What users have approved for ever: hermes-agent writes it into the configuration that it sees."""
    with contextlib.suppress(OSError, ValueError, RecursionError):
        from ruamel.yaml import YAML
        from ruamel.yaml.error import YAMLError

        with contextlib.suppress(YAMLError):
            found = YAML(typ="safe", pure=True).load(path.read_text("utf-8"))
            if isinstance(found, dict) and isinstance(found.get("command_allowlist"), list):
                return {str(one) for one in found["command_allowlist"]}
    return set()


def _quoted(value: str) -> str:
    """As python-dotenv reads it back: in single quotes nothing is replaced."""
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _replace(path: Path, text: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        if path.read_text("utf-8") == text:
            return  # hermes-agent reads a file anew whose time has changed
    fresh = path.with_name(f"{path.name}.new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with open(descriptor, "w", encoding="utf-8") as stream:
        stream.write(text)
    fresh.replace(path)

"""Puts the sources together: environment over ``config.yaml`` over ``gateway.json`` over the defaults."""

from __future__ import annotations

import ipaddress
import json
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from . import agents, models, urls
from . import environment as env
from .complaints import explain, shown
from .document import Document, KeyPath, parse, read_text
from .errors import ConfigError, Origin, Problem
from .not_yet import without_effect
from .settings import MIN_MEMORY, WEBHOOK_KEYS, ApiServer, Settings
from .unknown_keys import unknown_keys

_OURS = (
    "hermesd", "agent", "model", "fallback_providers", "fallback_model", "approvals", "platforms", "mcp_servers",
    "session_reset", "streaming", "group_sessions_per_user", "thread_sessions_per_user",
)  # fmt: skip


def _nowhere(path: KeyPath) -> tuple[str, Origin]:
    return _dotted(path), Origin()


@dataclass(frozen=True, slots=True)
class Loaded:
    """A configuration that can be used. ``environ`` is the process's environment over the home's ``.env``.

    ``origin`` tells name and place of a key, for whoever finds out later that its value does not work here.
    """

    settings: Settings
    warnings: tuple[Problem, ...] = ()
    environ: Mapping[str, str] = field(default_factory=dict, repr=False)
    files: tuple[Path, ...] = ()
    origin: Callable[[KeyPath], tuple[str, Origin]] = field(default=_nowhere, repr=False, compare=False)
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)  # config.yaml as it was written

    def with_log_level(self, level: str) -> Loaded:
        """The same with ``--log-level`` of the command line, which beats every file."""
        ours = self.settings.hermesd.model_copy(update={"log_level": level})
        return replace(self, settings=self.settings.model_copy(update={"hermesd": ours}))


def load(home: Path, config_file: Path | None, environ: Mapping[str, str]) -> Loaded:
    """Read everything below ``home`` that configures hermesd.

    ``config_file`` replaces ``home/config.yaml`` and must exist; without it a missing file means defaults.
    Raises `ConfigError` with every problem found; nothing is applied then.
    """
    environment = env.read_environment(home, environ)
    warnings = list(environment.warnings)
    files = [home / ".env"] if environment.origins else []

    sources = _Sources(environment)
    path = config_file or home / "config.yaml"
    try:
        document = parse(read_text(path, "the configuration"), str(path))
        files.append(path)
    except FileNotFoundError as error:
        if config_file is not None:
            raise ConfigError([Problem("", "there is no such file", "", Origin(str(path)))]) from error
        document = Document()
    sources.add(_legacy(home / "gateway.json", files))
    warnings += unknown_keys(document)
    sources.add(document)
    warnings += sources.add_environment()
    warnings += sources.mend_session_reset()
    warnings += without_effect(sources.values, sources.origin)

    try:
        settings, more = _checked(sources, path.parent)
    except ConfigError as error:
        raise ConfigError(error.problems, (*warnings, *error.warnings)) from error.__cause__
    return Loaded(settings, tuple(warnings + more), dict(environment.values), tuple(files), sources.origin,
                  document.values)  # fmt: skip


def _checked(sources: _Sources, directory: Path) -> tuple[Settings, list[Problem]]:
    """The settings and what is worth a warning about them. Relative paths are of ``directory``."""
    try:
        settings = Settings.model_validate(sources.values)
    except ValidationError as error:
        raise ConfigError(explain(error, sources.values, sources.origin)) from error
    settings = _with_paths(_with_api_server(settings, sources), directory, sources.environ)
    problems, warnings = _cross_check(settings, sources)
    if problems:
        raise ConfigError(problems, warnings)
    return settings, warnings


class _Sources:
    """The merged plain values and, for each, the origin of the source that won."""

    def __init__(self, environment: env.Environment):
        self.values: dict[str, Any] = {"access": env.access_of(environment.values)}
        self.environ = environment.values
        self._environment = environment
        self._origins: dict[KeyPath, tuple[str, Origin]] = {}

    def add(self, document: Document) -> None:
        """Lay a file over what is there: mappings are merged, everything else is replaced."""
        for name in PLATFORM_SECTIONS:
            if isinstance(section := document.values.get(name), dict):
                # hermes-agent's own place for what a platform does; what platforms.<name>.extra says goes before it.
                below = {"platforms": {name: {"extra": section}}}
                _merge(self.values, env.interpolate(below, self._environment.values))
        ours = {key: document.values[key] for key in (*_OURS, *_LEGACY_ONLY) if key in document.values}
        if isinstance(platforms := ours.get("platforms"), dict) and isinstance(platforms.get("webhook"), dict):
            ours["platforms"] = {**platforms, "webhook": _webhook(platforms["webhook"])}
        _merge(self.values, env.interpolate(ours, self._environment.values))
        for path, origin in document.origins.items():
            self._origins[path] = (_dotted(path), origin)

    def add_environment(self) -> Iterable[Problem]:
        """Lay the variables over it. Returns a warning for each credential whose platform is switched off."""
        for override in env.overrides(self._environment):
            nested: Any = override.value
            for key in reversed(override.path):
                nested = {key: nested}
            _merge(self.values, nested)
            self._origins[override.path] = (override.name, self._environment.origin(override.name))
        for name, platform in env.ENABLES.items():
            section = self.values.get("platforms", {}).get(platform)
            if not self._environment.values.get(name, "").strip() or not isinstance(section, dict):
                continue
            if section.setdefault("enabled", True) in (False, "false", "no", "off"):
                key, origin = self.origin(("platforms", platform, "enabled"))
                yield Problem(key, f"is off, so {name} is not used", f"enabled: true switches {platform} on", origin)

    def mend_session_reset(self) -> Iterable[Problem]:
        """Out-of-range figures of ``session_reset`` become the default with a warning, as hermes-agent does it."""
        section = self.values.get("session_reset")
        if not isinstance(section, dict):
            return
        for key, low, high, default in (("at_hour", 0, 23, 4), ("idle_minutes", 1, 10**9, 1440)):
            try:
                number = int(section.get(key, default))
            except (TypeError, ValueError):
                continue  # the wrong type: validation says it
            if not low <= number <= high:
                section[key] = default
                name, origin = self.origin(("session_reset", key))
                yield Problem(name, f"{number} is out of range, {default} is used", f"at least {low}", origin)

    def origin(self, path: KeyPath) -> tuple[str, Origin]:
        """Name and place of a value; of the nearest section above it where it was not written anywhere."""
        for length in range(len(path), 0, -1):
            if found := self._origins.get(path[:length]):
                name, origin = found
                return (name if length == len(path) else _dotted(path)), origin
        return _dotted(path), Origin()


PLATFORM_SECTIONS = ("telegram", "discord", "matrix")

_LEGACY_ONLY = ("reset_by_type", "reset_by_platform")


def _legacy(path: Path, files: list[Path]) -> Document:
    """``gateway.json``, hermes-agent's older file; its default policy is our ``session_reset``."""
    try:
        text = read_text(path, "gateway.json")
    except FileNotFoundError:
        return Document()
    files.append(path)
    try:
        values = json.loads(text)
    except json.JSONDecodeError as error:
        origin = Origin(str(path), error.lineno, error.colno)
        raise ConfigError([Problem("", f"broken JSON: {error.msg}", "mend it or remove the file", origin)]) from error
    except RecursionError as error:
        raise ConfigError([Problem("", "broken JSON: nested too deeply", "", Origin(str(path)))]) from error
    if not isinstance(values, dict):
        raise ConfigError([Problem("", "the file is not a JSON object", "mend or remove it", Origin(str(path)))])
    if "default_reset_policy" in values:
        values["session_reset"] = values.pop("default_reset_policy")
    values.pop("hermesd", None)
    origin = Origin(str(path))
    origins: dict[KeyPath, Origin] = {(key,): origin for key in values}
    return Document(values, origins)


def _with_api_server(settings: Settings, sources: _Sources) -> Settings:
    """``settings`` with address and key of the api_server checked and filled in."""
    platform = settings.platforms.get("api_server")
    if platform is None:
        return settings
    try:
        server = ApiServer.model_validate(platform.extra)
    except ValidationError as error:
        place = ("platforms", "api_server", "extra")
        raise ConfigError(explain(error, platform.extra, lambda path: sources.origin((*place, *path)))) from error
    update = {"api_key": platform.api_key or server.key, "extra": server.model_dump(exclude={"key"})}
    platforms = {**settings.platforms, "api_server": platform.model_copy(update=update)}
    return settings.model_copy(update={"platforms": platforms})


def _with_paths(settings: Settings, directory: Path, environ: Mapping[str, str]) -> Settings:
    """With absolute paths: hermesd, its workers and ``--check`` run in different directories."""
    ours = settings.hermesd

    def absolute(path: str) -> str:
        return os.path.abspath(os.path.join(directory, os.path.expanduser(path)))

    python = ours.python
    if python and "/" not in python:
        python = shutil.which(python, path=environ.get("PATH")) or python
    elif python:
        python = absolute(python)
    found = {"agent_path": tuple(map(absolute, ours.agent_path)), "python": python}
    return settings.model_copy(update={"hermesd": ours.model_copy(update=found)})


def _cross_check(settings: Settings, sources: _Sources) -> tuple[list[Problem], list[Problem]]:
    """What no single value can be blamed for: errors, and warnings."""
    errors: list[Problem] = []
    warnings: list[Problem] = []

    def at(path: KeyPath, message: str, fix: str) -> Problem:
        key, origin = sources.origin(path)
        return Problem(key, message, fix, origin)

    workers = settings.hermesd.workers
    for key in ("memory_soft", "memory_hard"):
        limit = getattr(workers, f"{key}_bytes")
        if limit is not None and limit < MIN_MEMORY:
            message = f"{limit} bytes is less than a worker needs to start"
            errors.append(at(("hermesd", "workers", key), message, "use 512M, 2G ... or none for no limit"))
    soft, hard = workers.memory_soft_bytes, workers.memory_hard_bytes
    if soft is not None and hard is not None and soft > hard:
        path: KeyPath = ("hermesd", "workers", "memory_soft")
        errors.append(at(path, "is more than memory_hard", "make it smaller than memory_hard"))
    if workers.spare > workers.max:
        errors.append(at(("hermesd", "workers", "spare"), "is more than workers.max", f"at most {workers.max}"))
    agent, agent_path = settings.hermesd.agent, settings.hermesd.agent_path
    if wrong := agents.why_not(agent):
        errors.append(at(("hermesd", "agent"), *wrong))
    elif not settings.hermesd.python and agents.is_missing(agent, agent_path):
        message = f'there is no module "{agent.partition(":")[0].partition(".")[0]}", in agent_path or installed'
        warnings.append(at(("hermesd", "agent"), message, "name its directory in hermesd.agent_path, or install it"))
    if not settings.hermesd.python and (package := agents.lacks_library(agent)):
        warnings.append(at(("hermesd", "agent"), "its library is not installed", f"pip install '{package}'"))
    for wrong_model in models.wrong_with(settings, sources.environ) if agent == models.AGENT else ():
        problem = at(wrong_model.path, wrong_model.message, wrong_model.fix)
        if not problem.origin.file:  # nothing of it was written: the name of the agent is what asks for it
            problem = replace(problem, origin=sources.origin(("hermesd", "agent"))[1])
        (warnings if wrong_model.warning else errors).append(problem)
    for directory in agent_path:
        if not Path(directory).is_dir():
            path = ("hermesd", "agent_path")
            fix = "name a directory that exists; a relative one is taken from where the configuration lies"
            warnings.append(at(path, f"{directory} is not a directory", fix))
    for name, platform in settings.platforms.items():
        for key in ("token", "api_key"):
            for missing in env.unresolved(getattr(platform, key)) if platform.enabled else ():
                fix = f"set {missing} in the environment or in .env"
                warnings.append(at(("platforms", name, key), f"{shown(missing)} is not set", fix))
    api = settings.platforms.get("api_server")
    if api is not None and api.enabled and not (api.api_key or api.token) and not _is_loopback(api.extra["host"]):
        message = f"{api.extra['host']} is open to other machines and there is no key, so the API will not be served"
        fix = "set API_SERVER_KEY (platforms.api_server.api_key), or host: 127.0.0.1"
        warnings.append(at(("platforms", "api_server", "extra", "host"), message, fix))
    for name, server in settings.mcp_servers.items():
        path = ("mcp_servers", name)
        if not name.strip() or "/" in name or not name.isprintable():
            errors.append(at(path, "is not a name for a server", "use letters, digits, - and _"))
        if server.command and server.url:
            warnings.append(at(path, "has a command and a url; the url is used", "keep one of them"))
        elif server.enabled and not server.command and not server.url:
            errors.append(at(path, "has no command", "add command: (a program) or url:, or enabled: false"))
        if server.scope == "host" and server.isolation == "call":
            fix = "keep one of them"
            warnings.append(at((*path, "isolation"), "call and scope: host are at odds: each call is alone", fix))
        if server.enabled and server.url:
            errors += [at((*path, key), message, fix) for key, message, fix in urls.wrong_with(server)]
            for place, value in urls.texts(server):
                for missing in env.unresolved(value):
                    fix = f"set {missing} in the environment or in .env"
                    warnings.append(at((*path, *place), f"{shown(missing)} is not set", fix))
        elif server.enabled:
            fix = "remove it, or replace the command by a url"
            warnings += [at((*path, key), "has no effect without a url", fix) for key in urls.keys_of_urls(server)]
    return errors, warnings


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost" or host.lower().endswith(".localhost")


def _webhook(section: Mapping[str, Any]) -> dict[str, Any]:
    """``platforms.webhook`` with everything where its adapter looks for it."""
    own = {key: section[key] for key in WEBHOOK_KEYS if key in section}
    rest = {key: value for key, value in section.items() if key not in own}
    extra = section.get("extra")
    if not own or not isinstance(extra, dict | None):
        return rest
    return {**rest, "extra": {**own, **(extra or {})}}


def _merge(into: dict[str, Any], over: Mapping[str, Any]) -> None:
    for key, value in over.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        elif value is None and (isinstance(into.get(key), dict) or key in _OURS):
            continue  # a section without content ("platforms:") says nothing
        else:
            into[key] = value


def _dotted(path: KeyPath) -> str:
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text

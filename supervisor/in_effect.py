"""What the configuration says to each part of hermesd, in that part's own terms.

Pure: called when the parts are built (`app`), and again with a new reading (`reloading`).
"""

from __future__ import annotations

from pathlib import Path

from hermesd.adapters.contract import AdapterSettings, Target
from hermesd.workers.spec import WorkerSpec

from . import worker_template
from .access.policy import AccessPolicy
from .config.budget import StopBudget
from .config.environment import platform_environment
from .config.loader import Loaded
from .config.models import agent_config
from .delivery.settings import DeliverySettings, Places, Streaming
from .gateway.busy import BusyMode
from .gateway.lane_settings import LaneSettings
from .gateway.reception import Rules
from .instance.paths import Paths

LOCAL = "local"
"""The platform of the terminal and of ``hermesctl chat``; always there, for who holds the terminal is allowed."""


def lane_settings(loaded: Loaded, paths: Paths, budget: StopBudget) -> LaneSettings:
    """About sessions and their turns."""
    ours = loaded.settings.hermesd
    return LaneSettings(
        max_workers=ours.workers.max,
        max_turns=ours.workers.max_turns,
        idle_timeout=ours.workers.idle_timeout_seconds,
        on_crash=ours.workers.on_crash,
        turn_timeout=ours.workers.turn_timeout_seconds,
        quiet_timeout=loaded.settings.agent.gateway_timeout_seconds,
        quiet_warning=loaded.settings.agent.gateway_timeout_warning_seconds,
        stop_grace=_server_grace(budget),
        work_dir=_work(paths),
        limits=worker_template.limits(ours.workers),
        agent_settings=dict(ours.agent_settings),
        agent_config=agent_config(loaded.settings, loaded.environ),
    )


def delivery_settings(loaded: Loaded, paths: Paths) -> DeliverySettings:
    """About messages to chats."""
    settings = loaded.settings
    streaming = settings.streaming
    return DeliverySettings(
        streaming=Streaming(
            enabled=streaming.enabled,
            interval=streaming.edit_interval_seconds,
            threshold=streaming.buffer_threshold,
            cursor=streaming.cursor,
        ),
        reply_to_mode={name: platform.reply_to_mode for name, platform in settings.platforms.items()},
        places=Places(paths.home, paths.media, _work(paths)),
    )


def reception_rules(loaded: Loaded) -> Rules:
    """About messages that come in."""
    settings = loaded.settings
    access = settings.access
    return Rules(
        policy=AccessPolicy(access.allowed, access.allow_all, access.gateway_allowed, access.gateway_allow_all),
        busy_mode=BusyMode(settings.hermesd.busy),
        group_sessions_per_user=settings.group_sessions_per_user,
        thread_sessions_per_user=settings.thread_sessions_per_user,
        platforms=frozenset({LOCAL, *(name for name, platform in settings.platforms.items() if platform.enabled)}),
        homes={
            name: Target(name, platform.home_channel.chat_id, platform.home_channel.thread_id)
            for name, platform in settings.platforms.items()
            if platform.home_channel is not None and platform.home_channel.chat_id
        },
    )


def worker_spec(loaded: Loaded, paths: Paths, budget: StopBudget) -> WorkerSpec:
    """What workers are told that start from now on."""
    return worker_template.template(loaded.settings, paths, loaded.environ, _server_grace(budget))


def wanted_platforms(loaded: Loaded, paths: Paths) -> dict[str, AdapterSettings]:
    """The ways in that are switched on, by name."""
    wanted = {LOCAL: AdapterSettings(LOCAL)}
    for name, platform in loaded.settings.platforms.items():
        if platform.enabled:
            extra = {"media_dir": str(paths.media), "home": str(paths.home), **platform.extra}
            wanted[name] = AdapterSettings(
                name, True, platform.token, platform.api_key, extra, platform.reply_to_mode,
                platform_environment(name, loaded.environ),
            )  # fmt: skip
    return wanted


def _work(paths: Paths) -> Path:
    return paths.ours / "work"


def _server_grace(budget: StopBudget) -> float:
    # An MCP server's polite stop has two waits of this length and a kill, all within the worker's own grace.
    return min(2.0, budget.worker_grace / 3)

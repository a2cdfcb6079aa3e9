"""The first acts of a forked worker, in the order that matters.

It shares nothing with the keeper from here on: not its sockets (a worker that kept the keeper's would delay the
supervisor's notice of the keeper's death by its own whole life), not its signal handling, not its name.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterable

from hermesd.workers import elsewhere

BUILT_IN_AGENTS = {
    "demo": "hermesd.workers.agents.demo",
    "hermes": "hermesd.workers.agents.hermes.agent",
    "llm": "hermesd.workers.agents.llm.agent",
}


def agent_modules(agent: str) -> tuple[str, ...]:
    """The modules to import ahead for an agent's name; ours need no probing but do no harm in it."""
    if not agent:
        return ()
    return (BUILT_IN_AGENTS.get(agent, agent.partition(":")[0]),)


def cut_loose(keep: Iterable[int]) -> None:
    """Close every descriptor but the standard three and ``keep``; put signal handling back to the default."""
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGCHLD, signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    low = 3
    for descriptor in sorted(keep):
        os.closerange(low, descriptor)
        low = descriptor + 1
    close_from(low)


def close_from(low: int) -> None:
    """Close every descriptor from ``low`` on. Looked up where possible, for the limit may be a million."""
    try:
        high = max(int(name) for name in os.listdir("/proc/self/fd")) + 1
    except FileNotFoundError:
        high = os.sysconf("SC_OPEN_MAX")
    os.closerange(low, high)


def spawn(tag: str, spec_fd: int, places: Iterable[str] = ()) -> int:
    """Start a worker as a new interpreter. It enters its container itself, by its spec, and the cgroups of its
    ceilings, ``places``; until then its pidfd is what a kill goes by.
    """
    process = subprocess.Popen(
        [*elsewhere.command("hermesd.workers"), str(spec_fd), *places],
        pass_fds=(spec_fd,),
        env={**os.environ, "HERMESD_TAG": tag},
        stdin=subprocess.DEVNULL,
    )
    # The keeper reaps with wait4; a Popen object that is collected later would only warn about its running child.
    process.returncode = 0
    return process.pid

"""``PYTHON aiagent_alone.py RUNS MESSAGES``: medians in milliseconds of hermes-agent's AIAgent as a library."""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from typing import Any


def main(runs: int, messages: int) -> None:
    from hermes_cli.config import load_config
    from hermes_cli.runtime_provider import resolve_runtime_provider
    from run_agent import AIAgent

    runtime = resolve_runtime_provider()
    agent: Any = AIAgent(
        model=load_config()["model"]["default"], quiet_mode=True, session_id="alone",
        **{name: runtime[name] for name in ("api_key", "base_url", "provider")},
    )  # fmt: skip
    agent.stream_delta_callback = lambda _: None
    history: list[dict[str, Any]] = agent.run_conversation("hello")["messages"]
    medians = []
    for _ in range(runs):
        times = []
        for _ in range(messages):
            began = time.monotonic()
            history = agent.run_conversation("go on", conversation_history=history)["messages"]
            times.append((time.monotonic() - began) * 1000)
        medians.append(statistics.median(times))
    print(json.dumps(medians), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
    # Its threads are not waited for.
    os._exit(0)

"""Twenty sessions with two servers each: ``hermesctl stop`` ends within 6 s and leaves nothing at all."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from harness.containment import grounds_of_round
from harness.figures import summary
from harness.scene import Scene

STOP_SECONDS = 6.0
SESSIONS = 20


def run(times: int, seed: int, say: Callable[[str], None]) -> dict[str, Any]:
    """In tests the seed chooses the ground, else nothing: each round is the same."""
    result: dict[str, Any] = {"sessions": SESSIONS, "servers_each": 2, "ends_within_s": STOP_SECONDS}
    for ground in grounds_of_round(seed):
        took: list[float] = []
        for number in range(times):
            with Scene(ours={"containment": ground.containment}, unprivileged=ground.unprivileged) as scene:
                took.append(_stop(scene))
            say(f"{ground.name}: stop {number + 1} of {times} took {took[-1]:.2f} s, nothing left")
        result[ground.name] = {"stops": len(took), "left": 0, "took": summary(took)}
    return result


def _stop(scene: Scene) -> float:
    scene.configure(plain=scene.hostile("be_plain"), stubborn=scene.hostile("ignore_everything"))
    scene.start()
    with ThreadPoolExecutor(SESSIONS) as pool:
        for text in pool.map(lambda number: scene.fake.talk("!start", chat=f"chat-{number}"), range(SESSIONS)):
            assert "plain.echo" in text, text
            assert "stubborn.echo" in text, text
    scene.roll.wait_alive(2 * SESSIONS)
    assert len(scene.daemon.workers()) == SESSIONS, scene.daemon.workers()
    took = scene.daemon.stop()
    left = {
        "processes": [*scene.daemon.processes(), *scene.roll.alive()],
        "cgroups": scene.daemon.cgroups(),
        "sockets": [*scene.daemon.sockets(), *map(str, scene.daemon.home.glob("fake"))],
        "temporary files": [str(path) for path in scene.temporary.iterdir()],
        "runtime files": [
            path.name for path in (scene.daemon.home / "hermesd" / "run").iterdir() if path.name != "hermesd.lock"
        ],
    }
    assert not any(left.values()), left
    assert took <= STOP_SECONDS, f"the stop took {took:.2f} s"
    log = (scene.daemon.home / "hermesd" / "logs" / "hermesd.log").read_text("utf-8")
    assert "Traceback" not in log, log[log.index("Traceback") - 500 :][:3000]
    return took

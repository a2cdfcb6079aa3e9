"""Two homes at once: whatever happens to one, not a process of the other is touched."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from harness.census import Identity, command, identities, kill, living
from harness.containment import Ground, grounds_of_round
from harness.scene import Scene

CALLERS = 3  # processes on the roll: two leaders and a hidden orphan


def run(times: int, seed: int, say: Callable[[str], None]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for ground in grounds_of_round(seed):
        chance = random.Random(seed)
        done: dict[str, int] = {}
        with ExitStack() as stack:
            bystander = stack.enter_context(_scene(ground)).start()
            victim = stack.enter_context(_scene(ground))
            watch = _Bystander(bystander)
            for number in range(times):
                for act in (_stop_politely, chance.choice((_kill_and_sweep, _kill_keeper_and_sweep, _kill_a_worker))):
                    act(victim, f"round-{number}")
                    watch.check(f"{ground.name}, round {number}, after {act.__name__}")
                    done[act.__name__.strip("_")] = done.get(act.__name__.strip("_"), 0) + 1
                say(f"{ground.name}: {number + 1} of {times} rounds, the other home is untouched")
        result[ground.name] = {"acts": done, "touched": 0, "watched": len(watch.known)}
    return result


def _scene(ground: Ground) -> Scene:
    scene = Scene(ours={"containment": ground.containment}, unprivileged=ground.unprivileged)
    scene.configure(plain=scene.hostile("be_plain"), hidden=scene.hostile("hide"))
    return scene


class _Bystander:
    """The home that nothing happens to; everything in it must live on, and answer."""

    def __init__(self, scene: Scene):
        self._scene = scene
        self._said = 0
        scene.fake.talk("!start", chat="neighbour")
        self._callers = scene.roll.wait_alive(CALLERS)
        scene.daemon.wait_forked()
        self.known: set[Identity] = identities([*scene.daemon.processes(), *self._callers])
        assert len(self.known) >= CALLERS + 4, [command(one.pid) for one in self.known]

    def check(self, when: str) -> None:
        dead = self.known - living(self.known)
        assert not dead, f"{when}: {sorted(dead)} of the other home are gone"
        assert self._scene.roll.alive() == self._callers, when
        self._said += 1
        text = self._scene.fake.talk("hello", chat="neighbour")
        assert "This is message" in text, text
        now = identities(self._scene.daemon.processes())
        assert now <= self.known, f"{when}: new processes {[command(one.pid) for one in now - self.known]}"


def _busy(scene: Scene, chat: str) -> None:
    scene.start()
    scene.fake.talk("!start", chat=chat)
    scene.roll.wait_alive(CALLERS)


def _stop_politely(scene: Scene, chat: str) -> None:
    _busy(scene, chat)
    scene.daemon.stop()
    scene.fake.close()
    scene.daemon.wait_nothing_left(1.0)


def _kill_and_sweep(scene: Scene, chat: str) -> None:
    _busy(scene, chat)
    scene.daemon.kill()
    scene.fake.close()
    scene.start()  # while the first life's keeper may still be emptying
    scene.daemon.stop()
    scene.daemon.wait_nothing_left(1.0)


def _kill_keeper_and_sweep(scene: Scene, chat: str) -> None:
    """Both at once: nobody is left to empty anything but the workers themselves and the next start."""
    _busy(scene, chat)
    keeper = scene.daemon.json("ps")["keeper"]["pid"]
    kill(keeper)
    scene.daemon.kill()
    scene.fake.close()
    scene.start()
    scene.daemon.stop()
    scene.daemon.wait_nothing_left(1.0)
    assert not scene.roll.alive(), scene.roll.alive()


def _kill_a_worker(scene: Scene, chat: str) -> None:
    _busy(scene, chat)
    kill(scene.worker(chat)["pid"])
    scene.fake.talk("are you there?", chat=chat)
    scene.daemon.stop()
    scene.fake.close()
    scene.daemon.wait_nothing_left(1.0)

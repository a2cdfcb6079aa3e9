from __future__ import annotations

from dataclasses import replace

from hermesd.ipc.mcp import ServerSpec, config_hash
from hermesd.supervisor.mcp.plan import Plan, plan


def spec(name: str, **more: object) -> ServerSpec:
    made = replace(ServerSpec(name, "run"), **more)  # type: ignore[arg-type]
    return replace(made, config=config_hash(made))


def test_only_what_differs_is_named() -> None:
    before = [spec("same"), spec("gone"), spec("argued"), spec("filtered", env={"A": "b"}), spec("timed")]
    after = [
        spec("same"),
        spec("argued", args=("-v",)),
        spec("filtered", env={"A": "b"}, exclude=("x",)),
        spec("timed", timeout=5.0, idle_timeout=60.0),
        spec("new"),
    ]
    assert plan(before, after) == Plan(("new",), ("argued",), ("filtered", "timed"), ("gone",))
    assert plan(after, after) == Plan()


def test_what_its_process_is_started_by_is_in_the_hash() -> None:
    one = spec("a")
    assert {spec("a", command="x").config, spec("a", cwd="/").config, spec("a", env={"A": ""}).config}.isdisjoint(
        {one.config}
    )
    assert spec("a", connect_timeout=1.0, include=("t",), max_lifetime=9.0).config == one.config
    assert spec("b").config == one.config

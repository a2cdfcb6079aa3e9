"""Names of agents that cannot be, told before anything is started."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from hermesd.supervisor.config import ConfigError, agents, load
from hermesd.workers.agents import factory


def warnings(home: Path, config: str) -> list[str]:
    (home / "config.yaml").write_text(config)
    return [f"{problem.sentence}; {problem.fix}" for problem in load(home, None, {}).warnings]


def test_the_built_in_ones_are_those_of_the_worker() -> None:
    assert set(factory.BUILT_IN) == agents.BUILT_IN
    assert factory.GROUP == agents.GROUP


@pytest.mark.parametrize(
    ("name", "why", "fix"),
    [
        ("hermess", '"hermess" is no agent', "did you mean hermes? use demo, hermes, llm or package.module:factory"),
        ("demmo", '"demmo" is no agent', "did you mean demo?"),
        ("mine", '"mine" is no agent', "as in mine:make"),
    ],
)
def test_a_name_that_is_neither_built_in_nor_a_factory_is_refused(
    name: str, why: str, fix: str, tmp_path: Path
) -> None:
    (tmp_path / "config.yaml").write_text(f"hermesd:\n  agent: {name}\n  agnet_path: /\n")
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, None, {})
    (problem,) = caught.value.problems
    assert (problem.message, problem.origin.line) == (why, 2)
    assert fix in problem.fix
    assert [warning.key for warning in caught.value.warnings] == ["hermesd.agnet_path"], "one of them may be the cause"


def test_an_agent_that_another_distribution_offers_is_none_of_ours_to_refuse(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offered = tmp_path / "offered-1.dist-info"
    offered.mkdir()
    (offered / "METADATA").write_text("Name: offered\nVersion: 1\n")
    (offered / "entry_points.txt").write_text(f"[{agents.GROUP}]\nmine = some.module:make\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert agents.why_not("mine") is None
    assert agents.why_not("yours") is not None


def test_a_module_that_is_nowhere_is_a_warning_and_nothing_is_imported(tmp_path: Path) -> None:
    place = tmp_path / "agents"
    place.mkdir()
    (place / "my_agent.py").write_text("raise RuntimeError('imported')\n")
    config = f"hermesd: {{agent: 'my_agent.deep:make', agent_path: {place}}}\n"
    assert warnings(tmp_path, config) == []
    assert "my_agent" not in sys.modules
    (told,) = warnings(tmp_path, "hermesd: {agent: 'my_agent.deep:make'}\n")
    assert 'hermesd.agent: there is no module "my_agent", in agent_path or installed' in told
    assert "agent_path" in told.partition("; ")[2]
    assert warnings(tmp_path, "hermesd: {agent: 'my_agent.deep:make', agent_path: agents}") == []
    assert warnings(tmp_path, "hermesd: {agent: 'hermesd.workers.agents.demo:make'}\n") == []


@pytest.mark.parametrize(
    ("extra", "warned"),
    [
        ("{host: 0.0.0.0}", True),
        ("{host: agent.example.com}", True),
        ("{host: 0.0.0.0, key: k}", False),
        ("{host: '::1'}", False),
        ("{host: localhost}", False),
        ("{}", False),
    ],
)
def test_an_address_open_to_others_without_a_key_is_told(extra: str, warned: bool, tmp_path: Path) -> None:
    told = warnings(tmp_path, f"platforms: {{api_server: {{enabled: true, extra: {extra}}}}}\n")
    assert bool(told) is warned
    assert all("no key" in text and "API_SERVER_KEY" in text for text in told)

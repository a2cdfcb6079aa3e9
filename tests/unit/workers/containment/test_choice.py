from __future__ import annotations

import re

import pytest

from hermesd.workers import containment
from hermesd.workers.containment import ContainmentError, Unsupported, choose, naming, open_containment

INSTANCE = "0123456789ab"


class Working:
    def __init__(self, name: str):
        self.name = name


def strategies(**reasons: str):
    """Strategies by name; one with a reason is refused."""

    def probe(name: str, reason: str):
        def try_it(instance: str) -> Working:
            if reason:
                raise Unsupported(reason)
            return Working(name)

        return try_it

    return {name: probe(name, reason) for name, reason in reasons.items()}


def test_the_strongest_that_works_is_chosen_and_the_reasons_are_kept(monkeypatch) -> None:
    monkeypatch.setattr(containment, "STRATEGIES", strategies(cgroup="no v2", subreaper="", pgroup=""))
    choice = choose(INSTANCE)
    assert choice.containment.name == "subreaper"
    assert choice.refused == (("cgroup", "no v2"),)


def test_a_forced_one_is_used_even_if_a_stronger_would_work(monkeypatch) -> None:
    monkeypatch.setattr(containment, "STRATEGIES", strategies(cgroup="", subreaper="", pgroup=""))
    assert choose(INSTANCE, "pgroup").containment.name == "pgroup"


def test_a_forced_one_that_is_impossible_is_an_error_with_its_reason(monkeypatch) -> None:
    monkeypatch.setattr(containment, "STRATEGIES", strategies(cgroup="no v2", subreaper=""))
    with pytest.raises(ContainmentError, match=r"^cannot use containment cgroup: no v2$"):
        choose(INSTANCE, "cgroup")


def test_a_system_without_any_is_told_every_reason(monkeypatch) -> None:
    monkeypatch.setattr(containment, "STRATEGIES", strategies(cgroup="no v2", job="not this system"))
    with pytest.raises(ContainmentError, match="cgroup: no v2; job: not this system"):
        choose(INSTANCE)


def test_the_strongest_is_tried_first() -> None:
    assert list(containment.STRATEGIES) == ["cgroup", "subreaper", "job", "pgroup"]


def test_a_cgroup_containment_is_opened_from_any_directory_of_it() -> None:
    place = f"/cg/x/hermesd-{INSTANCE}"
    for inside in (place, f"{place}/w-w1", f"{place}/w-w1/mcp-time-1"):
        opened = open_containment("cgroup", INSTANCE, place=inside)
        assert opened.worker("w1", f"{INSTANCE}-{'0' * 32}").place == f"{place}/w-w1"
    with pytest.raises(ContainmentError, match=f"/cg/other is not below hermesd-{INSTANCE}"):
        open_containment("cgroup", INSTANCE, place="/cg/other")


def test_a_name_that_is_no_strategy_is_refused() -> None:
    with pytest.raises(ContainmentError, match="cannot open containment 'job'"):
        open_containment("job", INSTANCE)


@pytest.mark.parametrize("server", ["time", "a/b", "../..", ".", "x" * 500, "Zeit-Ü", "", "new\nline", "\udc80"])
def test_a_servers_name_makes_one_harmless_directory_name(server) -> None:
    name = naming.server_name("w1", server, 3)
    assert re.fullmatch(r"w-w1/mcp-[A-Za-z0-9_.-]+-3", name)
    assert len(name) < 120


def test_different_servers_never_share_a_directory() -> None:
    names = ["a/b", "a_b", "a b", "a:b"]
    assert len({naming.server_name("w1", name, 1) for name in names}) == len(names)

"""An agent is found by its name, and what is wrong with a name is said in full."""

import sys

import pytest

from hermesd.workers.agents import demo
from hermesd.workers.agents.factory import load
from hermesd.workers.errors import NoAgent


@pytest.fixture(autouse=True)
def _clean_imports(monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        del sys.modules[name]


@pytest.fixture
def place(tmp_path):
    (tmp_path / "myagents").mkdir()
    (tmp_path / "myagents" / "__init__.py").write_text("")
    (tmp_path / "myagents" / "good.py").write_text(
        "import os\nclass A:\n    @classmethod\n    def made(cls, session): return cls()\n"
        "def make(session): return A()\ndef _hidden(): ...\nNOT = 3\n"
    )
    (tmp_path / "myagents" / "lacking.py").write_text("\n\nimport surely_not_installed.sub\n")
    (tmp_path / "myagents" / "raising.py").write_text("\nraise ValueError('no key')\n")
    (tmp_path / "myagents" / "wrong.py").write_text("x = 1\ndef broken(:\n")
    return tmp_path


def refusal(name, *path):
    with pytest.raises(NoAgent) as refused:
        load(name, path)
    return str(refused.value)


def test_the_demo_is_built_in():
    assert load("demo") is demo.make


def test_a_path_names_a_module_and_a_factory(place):
    factory = load("myagents.good:make", [str(place)])
    assert type(factory(None)).__name__ == "A"
    assert sys.path[0] == str(place)
    assert type(load("myagents.good:A.made", [str(place)])(None)).__name__ == "A"


def test_the_agent_path_keeps_its_order_and_is_not_doubled(place, tmp_path):
    for _ in range(2):
        load("demo", [str(place), str(tmp_path / "other")])
    assert sys.path[:2] == [str(place), str(tmp_path / "other")]
    assert sys.path.count(str(place)) == 1


def test_an_installed_distribution_can_offer_an_agent(place):
    info = place / "offer-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: offer\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[hermesd.agents]\noffered = myagents.good:make\n")
    assert load("offered", [str(place)]).__name__ == "make"


def test_an_unknown_name_lists_the_known_ones():
    assert refusal("gpt") == (
        "cannot load agent 'gpt': it is neither one of demo, hermes, llm nor of the form package.module:factory"
        " (as in gpt:make)"
    )


def test_a_missing_module_says_where_it_was_looked_for(place):
    assert f"there is no module 'nosuch', neither in agent_path ({place})" in refusal("nosuch.x:make", str(place))
    assert "there is no module 'myagents.nosuch'" in refusal("myagents.nosuch:make", str(place))
    assert "no agent_path is set" in refusal("nosuch:make")


def test_a_missing_dependency_is_told_from_a_missing_agent(place):
    text = refusal("myagents.lacking:make", str(place))
    assert "myagents.lacking was found, but it imports 'surely_not_installed'" in text
    assert text.endswith(f"(at {place}/myagents/lacking.py:3)")


def test_an_error_at_import_is_told_with_its_place(place):
    text = refusal("myagents.raising:make", str(place))
    assert text.endswith(f"failed: ValueError: no key (at {place}/myagents/raising.py:2)")
    assert f"{place}/myagents/wrong.py:2" in refusal("myagents.wrong:make", str(place))


def test_a_missing_attribute_lists_what_is_there(place):
    text = refusal("myagents.good:mak", str(place))
    assert f"myagents.good ({place}/myagents/good.py) has no 'mak'; callables that it defines: A, make" in text


def test_what_cannot_be_called_is_refused(place):
    assert "NOT in" in refusal("myagents.good:NOT", str(place))
    assert "is a int, not a function or class" in refusal("myagents.good:NOT", str(place))


@pytest.mark.parametrize("name", [":make", "a.b:", "a-b:make", "a:b:c", "a..b:make"])
def test_a_malformed_path_is_refused(name):
    assert "is not of the form package.module:factory" in refusal(name)

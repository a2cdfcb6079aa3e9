"""The file of routes, read again while it changes."""

from __future__ import annotations

import json
import logging
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from hermesd.adapters.webhook.routes import RouteSpec, parse
from hermesd.adapters.webhook.subscriptions import Broken, Subscriptions


def one(name: str, value: Any) -> RouteSpec:
    return parse(name, value, source="file", secret="", on_loopback=True)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "webhook_subscriptions.json"


@pytest.fixture
def held(file: Path) -> Subscriptions:
    return Subscriptions(file, one)


def names(held: Subscriptions) -> list[str]:
    held.refresh()
    return sorted(held.routes)


def test_no_file_is_no_routes(held: Subscriptions) -> None:
    assert names(held) == []
    assert (held.problem, held.ever_read) == ("", True)


def test_changes_are_seen(held: Subscriptions, file: Path) -> None:
    file.write_text('{"a": {}}')
    assert names(held) == ["a"]
    file.write_text('\ufeff{"a": {}, "b": {"events": ["push"]}}', "utf-8")
    assert names(held) == ["a", "b"]
    file.unlink()
    assert names(held) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"a": {}, "b":', "line 1: broken JSON"),
        ("[]", "not a JSON object"),
        ('{"b": {"events": 3}}', "route b: events"),
        ('{"a b": {}}', "not a name"),
        ("", "broken JSON"),
        ("[" * 100_000, "no JSON"),
    ],
)
def test_a_broken_one_changes_nothing_and_is_told_once(
    held: Subscriptions, file: Path, text: str, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    file.write_text('{"a": {}}')
    assert names(held) == ["a"]
    file.write_text(text)
    with caplog.at_level(logging.ERROR):
        assert [names(held) for _ in range(3)] == [["a"]] * 3
    assert said in held.problem
    assert str(file) in held.problem
    assert len(caplog.records) == 1
    file.write_text('{"c": {}}')
    assert names(held) == ["c"]
    assert held.problem == ""


def test_one_that_is_broken_at_the_start_was_never_read(held: Subscriptions, file: Path) -> None:
    file.write_text("{")
    assert names(held) == []
    assert not held.ever_read


def test_it_is_written_whole_and_for_its_owner_alone(held: Subscriptions, file: Path) -> None:
    held.write({"a": {"secret": "s"}})
    assert json.loads(file.read_text()) == {"a": {"secret": "s"}}
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    with pytest.raises(TypeError):
        held.write({"a": object()})
    assert names(held) == ["a"]
    assert os.listdir(file.parent) == [file.name]


def test_a_directory_in_its_place(held: Subscriptions, file: Path) -> None:
    file.mkdir()
    with pytest.raises(Broken, match="cannot be read"):
        held.read()

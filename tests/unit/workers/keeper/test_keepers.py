from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from hermesd.workers.containment.identity import start_ticks
from hermesd.workers.keeper.keepers import parse, read

ENTRY = {"pid": 7, "start_ticks": 70, "socket": "/run/k.sock", "secret": "s"}


def test_the_list_as_hermesd_writes_it() -> None:
    (listed,) = parse(json.dumps({"schema": 1, "keepers": [ENTRY]}))
    assert (listed.identity.pid, listed.identity.start_ticks, listed.socket) == (7, 70, "/run/k.sock")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"keepers": [{"pid": 1}]}', '{"keepers": 4}', '{"keepers": ["x"]}'])
def test_what_is_no_list_names_no_keeper(text: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse(text)
    (tmp_path / "keepers.json").write_text(text)
    assert read(str(tmp_path / "keepers.json")) == []


def test_a_missing_list_names_none() -> None:
    assert read("/nowhere/keepers.json") == []


def test_a_keeper_lives_as_the_process_that_was_listed() -> None:
    mine = {**ENTRY, "pid": os.getpid(), "start_ticks": start_ticks(os.getpid())}
    alive, reused = parse(json.dumps({"keepers": [mine, {**mine, "start_ticks": 1}]}))
    assert alive.lives
    assert not reused.lives

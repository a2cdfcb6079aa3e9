from __future__ import annotations

import pytest

from hermesd.supervisor.control import naming

DM = "agent:main:local:dm"
KEYS = [DM, f"{DM}:42", f"{DM}:anna", "agent:main:fake:dm:42", "agent:main:fake:group:7:anna:x"]


@pytest.mark.parametrize(
    ("name", "found"),
    [
        (DM, [DM]),
        ("local:dm", [DM]),
        ("dm", [DM]),
        ("anna", [f"{DM}:anna"]),
        ("42", ["agent:main:fake:dm:42", f"{DM}:42"]),
        ("fake:dm:42", ["agent:main:fake:dm:42"]),
        ("7:anna:x", ["agent:main:fake:group:7:anna:x"]),
        ("2", []),
        ("nna", []),
        ("agent:main", []),
        ("", []),
    ],
)
def test_a_name_is_a_whole_key_or_whole_parts_of_its_end(name: str, found: list[str]) -> None:
    assert naming.find(name, [*KEYS, *KEYS]) == found


def test_a_whole_key_is_that_session_though_another_ends_so() -> None:
    assert naming.find("dm:42", ["dm:42", "agent:main:fake:dm:42"]) == ["dm:42"]


def test_what_is_near_is_compared_part_by_part() -> None:
    assert naming.near("ana", KEYS) == [f"{DM}:anna"]
    assert naming.near(f"{DM}:ann", KEYS)[0] == f"{DM}:anna"
    assert naming.near("zzz", KEYS) == []
    assert naming.did_you_mean([]) == ""
    assert naming.did_you_mean(["a", "b"]) == "did you mean a or b?"


def test_an_ambiguous_name_shows_some_of_the_sessions() -> None:
    assert naming.ambiguous("x", ["b:x", "a:x"]) == "x could be 2 sessions: a:x, b:x"
    many = naming.ambiguous("x", [f"{number:02}:x" for number in range(12)])
    assert many.startswith("x could be 12 sessions: 00:x, ")
    assert many.endswith(", 07:x and 4 more")

from __future__ import annotations

import pytest

from hermesd.adapters.contract import Target
from hermesd.supervisor.gateway.targets import parse


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("telegram:-1001234:17585", Target("telegram", "-1001234", "17585")),
        ("discord:999888777", Target("discord", "999888777")),
        ("matrix:!room:example.org", Target("matrix", "!room:example.org")),
        ("matrix:!room:example.org:$event", Target("matrix", "!room:example.org", "$event")),
        ("matrix:@anna:example.org", Target("matrix", "@anna:example.org")),
        ("local:", None),
        ("telegram", None),
        (":5", None),
        ("telegram::5", None),
    ],
)
def test_the_words_of_an_agent_for_a_chat(text: str, target: Target | None) -> None:
    assert parse(text) == target

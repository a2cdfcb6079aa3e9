from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hermesd.adapters.contract import Inbound
from hermesd.supervisor.sessions.key import session_key

PARTS = st.text(st.characters(categories=("L", "N")), max_size=4)


def inbound(**fields: str) -> Inbound:
    given = {"platform": "telegram", "chat_id": "42", "message_id": "1", "user_id": "u1", "text": "x"}
    return Inbound(**(given | fields))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("fields", "settings", "key"),
    [
        ({}, {}, "agent:main:telegram:dm:42"),
        ({"thread_id": "7"}, {}, "agent:main:telegram:dm:42:7"),
        ({"chat_id": ""}, {}, "agent:main:telegram:dm"),
        ({"chat_id": "", "thread_id": "7"}, {}, "agent:main:telegram:dm:7"),
        ({"chat_type": "group"}, {}, "agent:main:telegram:group:42:u1"),
        ({"chat_type": "group", "user_id_alt": "uuid"}, {}, "agent:main:telegram:group:42:uuid"),
        ({"chat_type": "group"}, {"group_sessions_per_user": False}, "agent:main:telegram:group:42"),
        ({"chat_type": "group", "thread_id": "7"}, {}, "agent:main:telegram:group:42:7"),
        ({"chat_type": "group", "thread_id": "7"}, {"thread_sessions_per_user": True},
         "agent:main:telegram:group:42:7:u1"),
        ({"chat_type": "group", "thread_id": "7"},
         {"thread_sessions_per_user": True, "group_sessions_per_user": False}, "agent:main:telegram:group:42:7"),
        ({"chat_type": "channel", "user_id": ""}, {}, "agent:main:telegram:channel:42"),
    ],
)  # fmt: skip
def test_the_grammar(fields: dict[str, str], settings: dict[str, bool], key: str) -> None:
    assert session_key(inbound(**fields), **settings) == key


@given(chat=PARTS, thread=PARTS, user=PARTS, kind=st.sampled_from(["dm", "group", "channel", "thread"]))
def test_a_key_has_no_empty_part_and_does_not_depend_on_the_message(
    chat: str, thread: str, user: str, kind: str
) -> None:
    made = [
        session_key(
            inbound(chat_id=chat, thread_id=thread, user_id=user, chat_type=kind, message_id=number, text=number)
        )
        for number in ("1", "2")
    ]
    assert made[0] == made[1]
    assert "" not in made[0].split(":")


@given(first=PARTS.filter(bool), second=PARTS.filter(bool))
def test_two_people_in_a_group_share_a_session_only_if_they_are_one(first: str, second: str) -> None:
    keys = {session_key(inbound(chat_type="group", user_id=user)) for user in (first, second)}
    assert len(keys) == len({first, second})

"""The grammar of session keys: which messages belong to one conversation. Pure.

::

    direct message   agent:main:<platform>:dm[:<chat>][:<thread>]
    anything else    agent:main:<platform>:<chat type>[:<chat>][:<thread>][:<participant>]

    agent:main:telegram:dm:42                  one person's direct messages
    agent:main:telegram:group:-100:7           a topic, shared by all who write in it
    agent:main:discord:group:99:1234           a group, one session for each participant
    agent:main:local:dm                        the terminal

Groups are per participant and threads are shared unless the settings say otherwise. The grammar is that of
hermes-agent's gateway, whose session index uses the same keys.
"""

from __future__ import annotations

from hermesd.adapters.contract import Inbound
from hermesd.ipc.ids import SessionKey

AGENT = "agent:main"


def session_key(
    inbound: Inbound, *, group_sessions_per_user: bool = True, thread_sessions_per_user: bool = False
) -> SessionKey:
    """The key of the conversation that a message belongs to."""
    if inbound.chat_type == "dm":
        # Without a chat id the thread stands for it; without both, all direct messages of the platform are one session.
        parts = [AGENT, inbound.platform, "dm", inbound.chat_id, inbound.thread_id]
        return SessionKey(":".join(part for part in parts if part))
    parts = [AGENT, inbound.platform, inbound.chat_type, inbound.chat_id, inbound.thread_id]
    shared_thread = inbound.thread_id and not thread_sessions_per_user
    if group_sessions_per_user and not shared_thread:
        parts.append(inbound.user_id_alt or inbound.user_id)
    return SessionKey(":".join(part for part in parts if part))

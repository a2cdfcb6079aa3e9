"""May this person talk to the agent? Pure; asked once per message, before anything is started for it.

The order is that of hermes-agent's gateway: a way in that already knows who it is (terminal, control socket, API key),
then a missing user id, then the platform's allow-all flag, then the allow-lists. With no allow-list at all only
``GATEWAY_ALLOW_ALL_USERS`` opens the gate: it is closed by default.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from hermesd.adapters.contract import Inbound


@dataclass(frozen=True, slots=True)
class AccessPolicy:
    """The allow-lists as the environment gives them; ``*`` in a list means everybody."""

    allowed: Mapping[str, frozenset[str]] = field(default_factory=dict)  # platform -> user ids
    allow_all: frozenset[str] = frozenset()  # platforms open to everybody
    gateway_allowed: frozenset[str] = frozenset()
    gateway_allow_all: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """``reason`` is for the log; a refused stranger is told nothing."""

    allowed: bool
    reason: str


def judge(policy: AccessPolicy, inbound: Inbound) -> Verdict:
    """Decide on one message."""
    if inbound.trusted:
        return Verdict(True, "the way in has authenticated this user")
    if not inbound.user_id:
        return Verdict(False, "the platform did not say who wrote")
    if inbound.platform in policy.allow_all:
        return Verdict(True, f"{inbound.platform} is open to all users")
    listed = policy.allowed.get(inbound.platform, frozenset()) | policy.gateway_allowed
    if not listed:
        if policy.gateway_allow_all:
            return Verdict(True, "GATEWAY_ALLOW_ALL_USERS is set")
        return Verdict(False, f"no allow-list: set {inbound.platform.upper()}_ALLOWED_USERS or GATEWAY_ALLOWED_USERS")
    names = {inbound.user_id, inbound.user_id.partition("@")[0], inbound.user_id_alt} - {""}
    if "*" in listed or names & listed:
        return Verdict(True, "on the allow-list")
    return Verdict(False, "not on the allow-list")

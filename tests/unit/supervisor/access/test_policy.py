from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hermesd.adapters.contract import Inbound
from hermesd.supervisor.access.policy import AccessPolicy, judge

LISTED = AccessPolicy(allowed={"signal": frozenset({"ann"})})


def inbound(user: str = "ann", *, alt: str = "", platform: str = "signal", trusted: bool = False) -> Inbound:
    return Inbound(platform, "c1", "m1", user, "x", user_id_alt=alt, trusted=trusted)


@pytest.mark.parametrize(
    ("policy", "message", "allowed"),
    [
        (AccessPolicy(), inbound(), False),
        (AccessPolicy(), inbound("", trusted=True), True),
        (AccessPolicy(gateway_allow_all=True), inbound(), True),
        (AccessPolicy(gateway_allow_all=True), inbound(""), False),
        (AccessPolicy(allow_all=frozenset({"signal"})), inbound("anybody"), True),
        (AccessPolicy(allow_all=frozenset({"signal"})), inbound(""), False),
        (AccessPolicy(allow_all=frozenset({"telegram"})), inbound(), False),
        (LISTED, inbound(), True),
        (LISTED, inbound("bob"), False),
        (LISTED, inbound("bob", alt="ann"), True),
        (LISTED, inbound("ann@s.example"), True),
        (LISTED, inbound("@ann:example"), False),
        (LISTED, inbound(platform="telegram"), False),
        # An allow-list anywhere closes the flag for all: it says who, the flag would say everybody.
        (AccessPolicy(allowed={"signal": frozenset({"ann"})}, gateway_allow_all=True), inbound("bob"), False),
        (AccessPolicy(gateway_allowed=frozenset({"ann"})), inbound(platform="telegram"), True),
        (AccessPolicy(gateway_allowed=frozenset({"*"})), inbound("bob"), True),
        (AccessPolicy(allowed={"signal": frozenset({"*"})}), inbound("bob", platform="telegram"), False),
    ],
)
def test_who_is_let_in(policy: AccessPolicy, message: Inbound, allowed: bool) -> None:
    verdict = judge(policy, message)
    assert verdict.allowed is allowed
    assert verdict.reason


@given(st.text(), st.text(), st.sampled_from(["signal", "telegram", "x"]))
def test_the_gate_is_closed_by_default(user: str, alt: str, platform: str) -> None:
    assert not judge(AccessPolicy(), inbound(user, alt=alt, platform=platform)).allowed


def test_the_refusal_says_how_to_open_it() -> None:
    assert "SIGNAL_ALLOWED_USERS" in judge(AccessPolicy(), inbound()).reason


def test_an_empty_entry_of_a_list_lets_nobody_in() -> None:
    policy = AccessPolicy(allowed={"signal": frozenset({"", "ann"})})
    assert not judge(policy, inbound("@bob")).allowed

"""`hermesd.ipc.token`: one worker, one token, once."""

from __future__ import annotations

from hermesd.ipc.token import Tokens, matches, new_token


def test_tokens_have_128_bits_and_never_repeat() -> None:
    tokens = {new_token() for _ in range(1000)}
    assert len(tokens) == 1000
    assert {len(bytes.fromhex(token)) for token in tokens} == {16}


def test_matching_takes_any_text_a_peer_may_send() -> None:
    token = new_token()
    assert matches(token, token)
    for other in ("", token[:-1], token + "0", token.upper() + "x", "é", "\ud83d"):
        assert not matches(token, other)


def test_a_token_is_redeemed_once_by_its_worker_only() -> None:
    tokens = Tokens()
    one, other = tokens.issue("w1"), tokens.issue("w2")
    assert not tokens.redeem("w1", other)
    assert not tokens.redeem("w3", one)
    assert tokens.redeem("w1", one)
    assert not tokens.redeem("w1", one)
    assert len(tokens) == 1


def test_a_wrong_guess_does_not_use_up_the_token() -> None:
    tokens = Tokens()
    token = tokens.issue("w1")
    assert not tokens.redeem("w1", "guess")
    assert tokens.redeem("w1", token)


def test_a_second_issue_and_a_revoke_make_the_first_void() -> None:
    tokens = Tokens()
    first, second = tokens.issue("w1"), tokens.issue("w1")
    assert not tokens.redeem("w1", first)
    tokens.revoke("w1")
    tokens.revoke("w1")
    assert not tokens.redeem("w1", second)


def test_the_register_does_not_print_its_tokens() -> None:
    tokens = Tokens()
    token = tokens.issue("w1")
    assert token not in repr(tokens)
    assert "w1" in repr(tokens)

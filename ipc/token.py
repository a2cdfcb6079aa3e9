"""One-time tokens: how a worker proves to the supervisor that it is the one that was started.

ZeroMQ does not say which process connected. The supervisor puts a token into the pipe that only the new worker
inherits, and the worker's hello shows it once.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets


def new_token() -> str:
    """128 random bits, in hex."""
    return secrets.token_hex(16)


def matches(expected: str, shown: str) -> bool:
    """Whether they are equal, in a time that does not tell how much of them is."""
    return hmac.compare_digest(expected.encode("utf-8", "surrogatepass"), shown.encode("utf-8", "surrogatepass"))


def proof_of(token: str) -> str:
    """What a register keeps of a token: enough to know it again, and of no use to whoever reads it."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


class Tokens:
    """The supervisor's register of tokens that were issued and not yet shown."""

    def __init__(self) -> None:
        self._issued: dict[str, str] = {}  # their proofs

    def issue(self, worker: str) -> str:
        """A token for this worker; an earlier one of the same worker is void."""
        token = new_token()
        self._issued[worker] = proof_of(token)
        return token

    def expect(self, worker: str, proof: str) -> None:
        """A worker that an earlier supervisor started will show the token with this proof."""
        self._issued[worker] = proof

    def redeem(self, worker: str, token: str) -> bool:
        """Whether this is the worker's token, shown for the first time.

        A wrong one does not use up the right one: anybody who can connect could keep a worker out otherwise.
        """
        expected = self._issued.get(worker)
        if expected is None or not matches(expected, proof_of(token)):
            return False
        del self._issued[worker]
        return True

    def revoke(self, worker: str) -> None:
        """Forget the token of a worker that died before its hello."""
        self._issued.pop(worker, None)

    def __len__(self) -> int:
        return len(self._issued)

    def __repr__(self) -> str:
        return f"<Tokens of {sorted(self._issued)}>"

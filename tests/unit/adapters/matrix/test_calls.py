from __future__ import annotations

import aiohttp
import pytest
from mautrix import errors as matrix

from hermesd.adapters.errors import AdapterError, Gone, Rejected, Retry, Unauthorized, Uncertain
from hermesd.adapters.matrix.calls import AFTER, Limited, calling, is_passing, translated


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (matrix.MUnknownToken(401, "x"), Unauthorized),
        (matrix.MMissingToken(401, "x"), Unauthorized),
        (matrix.MUserDeactivated(403, "x"), Unauthorized),
        (matrix.MForbidden(403, "not in room"), Gone),
        (matrix.MNotJoined(403, "x"), Gone),
        (matrix.MNotFound(404, "x"), Gone),
        (matrix.MTooLarge(413, "x"), Rejected),
        (matrix.MBadJSON(400, "x"), Rejected),
        (matrix.MInvalidParam(400, "x"), Rejected),
        (matrix.MUnrecognized(404, "x"), Rejected),
        (matrix.MUnknown(400, "x"), Rejected),
        (matrix.MUnknown(500, "x"), Retry),
        (matrix.MatrixUnknownRequestError(502, "<html>bad gateway</html>"), Retry),
        (matrix.MatrixUnknownRequestError(400, "{}", "ORG.EXAMPLE.ODD", "odd"), Rejected),
        # Of what stands before a homeserver that is away, or is none.
        (matrix.MatrixUnknownRequestError(404, "404 page not found"), Retry),
        (matrix.MatrixUnknownRequestError(403, "<html>"), Retry),
        (matrix.MatrixUnknownRequestError(413, "<html>413 Request Entity Too Large</html>"), Rejected),
        (matrix.MatrixConnectionError("refused"), Retry),
        (aiohttp.ServerDisconnectedError(), Retry),
        (TimeoutError(), Retry),
        (ConnectionResetError(), Retry),
        (matrix.MatrixResponseError("no event_id"), Retry),
        (matrix.EncryptionError("no session"), Retry),
    ],
)
def test_each_error_says_what_may_come_next(error: BaseException, kind: type[AdapterError]) -> None:
    made = translated(error, "send")
    assert type(made) is kind
    assert str(made).startswith("cannot send: ")
    assert not isinstance(made, Uncertain), "a resend is exact"


def test_a_limit_says_when_the_next_try_may_come() -> None:
    made = translated(Limited(429, "Too Many Requests", 3.7), "send")
    assert isinstance(made, Retry)
    assert made.after == 3.7
    assert str(made) == "cannot send: Too Many Requests (M_LIMIT_EXCEEDED)"


def test_what_is_no_error_of_a_call_goes_through() -> None:
    assert translated(ValueError("ours"), "send") is None
    with pytest.raises(ValueError, match="ours"), calling("send"):
        raise ValueError("ours")
    with pytest.raises(Gone, match="as it was"), calling("send"):
        raise Gone("as it was")


def test_the_cause_is_kept() -> None:
    cause = matrix.MatrixConnectionError("refused")
    with pytest.raises(Retry) as caught, calling("send"):
        raise cause
    assert caught.value.__cause__ is cause
    assert caught.value.after == AFTER


def test_what_may_pass() -> None:
    assert is_passing(Retry("x"))
    assert not any(is_passing(one) for one in (Gone("x"), Rejected("x"), Unauthorized("x"), AdapterError("x")))

"""The wire as the SDK's models read and write it, whatever its version."""

import json

import pytest

from hermesd.workers.mcp import sdk


@pytest.mark.parametrize(
    "message",
    [
        {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "a", "arguments": {"x": None}}},
        {"jsonrpc": "2.0", "id": "a", "result": {"content": [], "more": None}},
        {"jsonrpc": "2.0", "id": 1, "error": {"code": -32601, "message": "no"}},
        {"jsonrpc": "2.0", "method": "notifications/tools/list_changed"},
    ],
)
def test_a_message_survives_the_round_trip(message):
    line = sdk.encode(sdk.parse(json.dumps(message).encode()))
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert json.loads(line) == message


@pytest.mark.parametrize(
    "line", [b"garbage", b"{}", b"[]", b'{"jsonrpc": "1.0", "id": 1, "method": "x"}', b"\xff\xfe", b"1"]
)
def test_what_is_no_message_is_a_value_error(line):
    with pytest.raises(ValueError):  # noqa: PT011 - pydantic's own subclass differs between its versions
        sdk.parse(line)

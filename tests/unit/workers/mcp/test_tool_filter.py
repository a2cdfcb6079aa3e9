"""Which tools pass: include beats exclude, and what stands for resources and prompts has switches of its own."""

import pytest

from hermesd.ipc.mcp import ServerSpec
from hermesd.workers.mcp.tool_filter import allows


@pytest.mark.parametrize(
    ("settings", "passing", "hidden"),
    [
        ({}, ["a", "read_resource"], []),
        ({"exclude": ("a", "get_prompt")}, ["b", "list_prompts"], ["a", "get_prompt"]),
        ({"include": ("a",)}, ["a", "read_resource"], ["b"]),
        ({"include": ("a", "read_resource"), "resources": False}, ["read_resource"], ["list_resources"]),
        ({"include": ("a",), "exclude": ("a",)}, ["a"], ["b"]),
        ({"prompts": False, "include": ("a",)}, ["list_resources"], ["list_prompts", "get_prompt"]),
    ],
)
def test_what_passes(settings, passing, hidden):
    spec = ServerSpec("s", "x", **settings)
    assert [tool for tool in (*passing, *hidden) if allows(spec, tool)] == passing

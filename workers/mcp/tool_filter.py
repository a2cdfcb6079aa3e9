"""Which tools of a server its configuration lets through. Pure, and without the SDK: a worker may never need that."""

from __future__ import annotations

from hermesd.ipc.mcp import ServerSpec

UTILITIES = {
    "list_resources": "resources",
    "read_resource": "resources",
    "list_prompts": "prompts",
    "get_prompt": "prompts",
}
"""Tools that stand for what a server has besides tools -> the capability they stand for."""


def allows(spec: ServerSpec, tool: str) -> bool:
    """``tools.include`` names tools of the server's own; resources and prompts have switches besides."""
    if tool in spec.include:
        return True
    if tool in UTILITIES and getattr(spec, UTILITIES[tool]):
        return tool not in spec.exclude
    return not spec.include and tool not in spec.exclude

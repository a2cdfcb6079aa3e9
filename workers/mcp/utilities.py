"""A server's resources and prompts, offered to agents as tools: most agents know nothing but tools.

Their names and arguments are hermes-agent's. A tool of the server's own with the same name goes before ours.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any

from mcp.client.session import ClientSession

from hermesd.ipc.mcp import ServerSpec
from hermesd.workers.agents.contract import Tool, ToolResult
from hermesd.workers.mcp import sdk
from hermesd.workers.mcp.tool_filter import UTILITIES

_TEXT = {"type": "string"}
_TOOLS: Mapping[str, tuple[str, dict[str, Any]]] = {
    "list_resources": ("List what can be read from {} as resources.", {"type": "object", "properties": {}}),
    "read_resource": (
        "Read a resource of {} by its URI.",
        {
            "type": "object",
            "properties": {"uri": {**_TEXT, "description": "URI of the resource to read"}},
            "required": ["uri"],
        },
    ),
    "list_prompts": ("List the prompts that {} has.", {"type": "object", "properties": {}}),
    "get_prompt": (
        "Get a prompt of {} by its name.",
        {
            "type": "object",
            "properties": {
                "name": {**_TEXT, "description": "Name of the prompt to get"},
                "arguments": {
                    "type": "object",
                    "description": "Values for the prompt's arguments",
                    "additionalProperties": _TEXT,
                },
            },
            "required": ["name"],
        },
    ),
}


async def present(session: ClientSession, spec: ServerSpec) -> frozenset[str]:
    """What of "resources" and "prompts" there is to offer. Many servers say that they have both and have neither."""
    said, found = sdk.capabilities(session), set()
    looks = {"resources": (sdk.list_resources, sdk.list_resource_templates), "prompts": (sdk.list_prompts,)}
    for what, wanted in (("resources", spec.resources), ("prompts", spec.prompts)):
        for look in looks[what] if wanted and what in said else ():
            if what not in found and await look(session, spec.name):
                found.add(what)
    return frozenset(found)


def offer(spec: ServerSpec, has: Collection[str], own: Collection[str]) -> list[Tool]:
    """Those for what the server ``has``, unless a tool of its ``own`` has the name."""
    return [
        Tool(spec.name, name, description.format(f"the MCP server {spec.name}"), schema)
        for name, (description, schema) in _TOOLS.items()
        if UTILITIES[name] in has and name not in own
    ]


async def call(session: ClientSession, server: str, tool: str, arguments: dict[str, Any]) -> ToolResult:
    """One of them. Raises as `sdk.call_tool` does; a wrong argument is a result that says so."""
    if tool == "list_resources":
        listed: dict[str, Any] = {"resources": _short(await sdk.list_resources(session, server))}
        if templates := _short(await sdk.list_resource_templates(session, server)):
            listed["resourceTemplates"] = templates
        return _json(listed)
    if tool == "list_prompts":
        return _json({"prompts": _short(await sdk.list_prompts(session, server))})
    if tool == "read_resource":
        uri = arguments.get("uri")
        if not isinstance(uri, str) or not uri:
            return ToolResult("the argument uri is missing: a resource's URI, as list_resources has it", is_error=True)
        blocks = [{"type": "resource", "resource": content} for content in await sdk.read_resource(session, uri)]
        return ToolResult("\n".join(sdk.text_of(block) for block in blocks))
    name, given = arguments.get("name"), arguments.get("arguments") or {}
    if not isinstance(name, str) or not name or not isinstance(given, dict):
        return ToolResult("get_prompt takes name (a text) and arguments (an object)", is_error=True)
    prompt = await sdk.get_prompt(session, name, {str(key): str(value) for key, value in given.items()})
    messages = [{"role": message["role"], "content": sdk.text_of(message["content"])} for message in prompt["messages"]]
    described = {"description": prompt["description"]} if prompt.get("description") else {}
    return _json({"messages": messages, **described})


def _short(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What a model needs to choose; icons and annotations would fill its window."""
    keys = ("uri", "uriTemplate", "name", "description", "mimeType", "arguments")
    return [{key: item[key] for key in keys if item.get(key)} for item in items]


def _json(value: dict[str, Any]) -> ToolResult:
    return ToolResult(json.dumps(value, ensure_ascii=False))

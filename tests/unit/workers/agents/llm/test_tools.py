from __future__ import annotations

import pytest

from hermesd.workers.agents.contract import Tool
from hermesd.workers.agents.llm.tools import NAME_LENGTH, BadArguments, arguments_of, offer


def tool(server: str, name: str) -> Tool:
    return Tool(server, name, "what it does", {})


def test_names_are_what_an_endpoint_takes_and_each_is_one_tools_own() -> None:
    tools = [
        tool("git hub", "list/all"), tool("git", "hub_list_all"), tool("git_hub", "list_all"), tool("a", "ü" * 100),
        tool("a", "ö" * 100), tool("a", "u" * 100), tool("a", "u" * 101),
    ]  # fmt: skip
    made = offer(tools)
    assert list(made.tools)[:3] == ["git_hub_list_all", "git_hub_list_all_2", "git_hub_list_all_3"]
    assert len(made.tools) == len(tools)
    assert list(made.tools.values()) == tools
    assert all(len(name) <= NAME_LENGTH and name.replace("-", "_").isidentifier() for name in made.tools)
    assert [schema["function"]["name"] for schema in made.schemas] == list(made.tools)
    assert offer(tools).schemas == made.schemas


def test_a_tool_without_a_schema_takes_nothing() -> None:
    (schema,) = offer([tool("a", "b")]).schemas
    assert schema["function"]["parameters"] == {"type": "object", "properties": {}}


@pytest.mark.parametrize(("written", "arguments"), [("", {}), ("  ", {}), ("{}", {}), ('{"a": [1]}', {"a": [1]})])
def test_arguments(written: str, arguments: dict[str, object]) -> None:
    assert arguments_of(written) == arguments


@pytest.mark.parametrize("written", ['{"a":', "[1]", "3", "null", "yes"])
def test_what_is_no_object_is_told_to_the_model(written: str) -> None:
    with pytest.raises(BadArguments, match="so nothing was called") as caught:
        arguments_of(written)
    assert written in str(caught.value)

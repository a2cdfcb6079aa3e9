"""Servers that are reached by url: real ones over both transports, and what happens when one goes away."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket

import pytest
from harness.mcp_http import EVERYTHING, everything, modern
from harness.ports import free_port

from hermesd.ipc.mcp import Sampling, ServerSpec
from hermesd.workers import containment
from hermesd.workers.agents.contract import Sample
from hermesd.workers.mcp import sdk
from hermesd.workers.mcp.errors import CallRejected, CannotStart, NoSuchTool, ServerDied
from hermesd.workers.mcp.servers import Servers

PATIENCE = 40.0  # for a server that starts beside the other tests


class Asked:
    """`hermesd.workers.mcp.sampling.Model`: keeps what it was asked."""

    def __init__(self):
        self.requests = []

    def can_sample(self):
        return True

    async def sample(self, request):
        self.requests.append(request)
        return Sample("forty-two", "a-model")


@pytest.fixture
async def make(home):
    """Servers as a worker has them; a url has nothing to do with the kind of containment."""
    made = []

    def servers(*specs, model=None):
        chosen = containment.choose(home.instance, "subreaper").containment
        made.append(
            Servers(
                specs, containment=chosen, worker="w1", tag=f"{home.instance}-0", log_dir=None, base_env={}, model=model
            )
        )
        return made[-1]

    yield servers
    for each in made:
        await each.stop(5.0)


@pytest.fixture
def node(lacking):
    if shutil.which("node") is None or not EVERYTHING.is_file():
        lacking("server-everything is not installed: npm ci --prefix tests/node")


def far(running, **more):
    options = {"connect_timeout": PATIENCE, "timeout": PATIENCE, "tools_wait": PATIENCE, **more}
    return ServerSpec("far", url=running.url, **options)


def state_of(servers):
    report = servers.reports()[0]
    return str(report.state), report.pid, report.container


async def rests(servers):
    async with asyncio.timeout(PATIENCE):
        while state_of(servers)[0] not in ("broken", "stopped"):
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(("kind", "transport", "path"), [("streamableHttp", "http", "/mcp"), ("sse", "sse", "/sse")])
async def test_a_real_server_over_each_transport(make, node, kind, transport, path):
    with everything(kind, path=path) as running:
        servers = make(far(running, transport=transport, sampling=Sampling(max_tokens=50)), model=(asked := Asked()))
        names = [tool.name for tool in await servers.tools()]
        assert {"echo", "list_resources", "read_resource", "list_prompts", "get_prompt"} <= set(names)
        assert (await servers.call("far", "echo", {"message": "h\u00e4llo"})).text == "Echo: h\u00e4llo"
        assert state_of(servers) == ("ready", 0, "")

        listed = json.loads((await servers.call("far", "list_resources", {})).text)
        uri = listed["resources"][0]["uri"]
        assert listed["resourceTemplates"]
        assert (await servers.call("far", "read_resource", {"uri": uri})).text.strip()
        assert (await servers.call("far", "read_resource", {})).is_error
        prompts = json.loads((await servers.call("far", "list_prompts", {})).text)["prompts"]
        arguments = {"name": "args-prompt", "arguments": {"city": "Ulm"}}
        assert "args-prompt" in [prompt["name"] for prompt in prompts]
        prompt = json.loads((await servers.call("far", "get_prompt", arguments)).text)
        assert "Ulm" in prompt["messages"][0]["content"]

        said = await servers.call("far", "trigger-sampling-request", {"prompt": "how many?", "maxTokens": 1000})
        assert "forty-two" in said.text
        (request,) = asked.requests
        assert (request.server, request.max_tokens, request.temperature) == ("far", 50, 0.7)
        assert request.messages[0] == {"role": "system", "content": "You are a helpful test server."}
        assert "how many?" in request.messages[1]["content"]

        running.kill()
        if transport == "sse":  # its stream ends; without one, the next call finds out
            await rests(servers)
        with pytest.raises((ServerDied, CannotStart), match="far"):
            await servers.call("far", "echo", {"message": "x"})
        await rests(servers)
        with pytest.raises(CannotStart, match=r"127\.0\.0\.1:\d+/\w+: .*connect"):
            await servers.call("far", "echo", {"message": "x"})


async def test_a_session_that_the_server_has_forgotten_is_made_anew(make, node):
    port = free_port()
    with everything("streamableHttp", port=port) as running:
        servers = make(far(running))
        await servers.tools()
        running.kill()
        with everything("streamableHttp", port=port):
            assert (await servers.call("far", "echo", {"message": "again"})).text == "Echo: again"
        assert servers.reports()[0].generation == 2


NEW_SDK = pytest.mark.skipif(not hasattr(sdk.ClientSession, "discover"), reason="the server needs version 2 of the SDK")


@NEW_SDK
async def test_the_revision_without_a_handshake(make):
    with modern() as running:
        servers = make(far(running, sampling=Sampling()), model=Asked())
        names = {tool.name for tool in await servers.tools()}
        assert {"add", "grow", "ask", "read_resource", "get_prompt"} <= names
        assert "2026" in servers._servers["far"]._generation.protocol
        assert (await servers.call("far", "add", {"a": 2, "b": 40})).text == "42"
        assert (await servers.call("far", "read_resource", {"uri": "text://swans"})).text == "swans are white"
        # It sends no requests of its own: the question comes as an answer, and the call is made again.
        assert (await servers.call("far", "ask", {"question": "how many?"})).text == "it said: forty-two"
        assert (await servers.call("far", "grow", {})).text == "grown"
        async with asyncio.timeout(PATIENCE):
            while "grown" not in {tool.name for tool in await servers.tools()}:
                await asyncio.sleep(0.02)


@NEW_SDK
async def test_what_the_configuration_hides_is_not_offered(make):
    with modern() as running:
        servers = make(far(running, include=("add",), prompts=False, exclude=("list_resources",)))
        assert {tool.name for tool in await servers.tools()} == {"add", "read_resource"}
        for hidden in ("grow", "list_resources", "get_prompt"):
            with pytest.raises(NoSuchTool):
                await servers.call("far", hidden, {})
        with pytest.raises(CallRejected):
            await servers.call("far", "read_resource", {"uri": "text://nowhere"})


async def test_an_address_where_nobody_answers_in_time_does_not_hold_up_a_stop(make):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}/sse"
        servers = make(ServerSpec("far", url=address, transport="sse", connect_timeout=PATIENCE))
        starting = asyncio.create_task(servers.call("far", "echo", {}))
        async with asyncio.timeout(PATIENCE):
            while state_of(servers)[0] != "starting":
                await asyncio.sleep(0.01)
        async with asyncio.timeout(PATIENCE / 2):
            await servers.stop(PATIENCE)
        with pytest.raises(Exception, match="far"):
            await starting

"""Real MCP servers, from PyPI and from npm, also through npx: started, called, stopped, and nothing of them is left."""

import asyncio
import importlib.util
import json
import os
import select
import shutil
import signal
import sys
from pathlib import Path

import pytest
from harness.figures import StopWatch

from hermesd.ipc.mcp import ServerSpec
from hermesd.workers.mcp.errors import ServerDied

pytestmark = pytest.mark.usefixtures("stopping")

NODE = Path(__file__).parents[2] / "node"
PROCESSES_OF_NPX = 3  # npm exec, sh, node
PATIENCE = 60.0  # for a list of tools: four servers begin at once, beside the other tests


@pytest.fixture
def python_server(lacking):
    def make(module, name):
        if importlib.util.find_spec(module) is None:
            lacking(f"{module} is not installed: ./scripts/test installs it")
        return ServerSpec(name, sys.executable, ("-m", module), tools_wait=PATIENCE)

    return make


@pytest.fixture
def node_server(lacking):
    def make(package, *args, name="node"):
        folder = NODE / "node_modules" / "@modelcontextprotocol" / package
        if shutil.which("node") is None or not folder.is_dir():
            lacking(f"{package} is not installed: npm ci --prefix tests/node")
        return ServerSpec(name, "node", (str(folder / "dist" / "index.js"), *args), tools_wait=PATIENCE)

    return make


@pytest.fixture
def npx_server(lacking, node_server):
    def make(package, *args, name="npx"):
        node_server(package)
        if shutil.which("npx") is None:
            lacking("there is no npx")
        words = ("--no", f"@modelcontextprotocol/{package}", *args)
        return ServerSpec(name, "npx", words, cwd=str(NODE), tools_wait=PATIENCE)

    return make


def pidfds(pids):
    return [os.pidfd_open(pid) for pid in pids]


def all_dead(descriptors):
    poller = select.poll()
    for descriptor in descriptors:
        poller.register(descriptor, select.POLLIN)
    dead = len(poller.poll(0)) == len(descriptors)
    for descriptor in descriptors:
        os.close(descriptor)
    return dead


async def stop_and_count(pen, servers):
    """Stop, and prove by pidfd and by tag that all is gone. Returns how many processes there were, and the seconds."""
    members = pen.members()
    descriptors = pidfds(members)
    watch = StopWatch()
    await servers.stop(6.0)
    took = watch.seconds()
    assert all_dead(descriptors)
    assert pen.members() == ()
    assert pen.tagged() == []
    assert all(str(report.state) == "stopped" for report in servers.reports())
    return len(members), took


async def test_the_time_server_tells_the_time(pen, python_server):
    servers = pen.servers(python_server("mcp_server_time", "time"))
    assert [tool.name for tool in await servers.tools()] == ["get_current_time", "convert_time"]
    result = await servers.call("time", "get_current_time", {"timezone": "UTC"})
    assert json.loads(result.text)["timezone"] == "UTC"
    assert not result.is_error
    wrong = await servers.call("time", "get_current_time", {"timezone": "Moon/Sea"})
    assert wrong.is_error
    assert "Moon/Sea" in wrong.text
    count, took = await stop_and_count(pen, servers)
    assert count == 1
    assert took < 3.0


async def test_the_everything_server_speaks_all_kinds_of_content(pen, node_server):
    servers = pen.servers(node_server("server-everything"))
    names = [tool.name for tool in await servers.tools()]
    assert "echo" in names
    assert (await servers.call("node", "echo", {"message": "hällo\n☃"})).text == "Echo: hällo\n☃"
    assert (await servers.call("node", "get-sum", {"a": 2, "b": 40})).text == "The sum of 2 and 40 is 42."
    image = await servers.call("node", "get-tiny-image", {})
    assert "[image: image/png, " in image.text
    structured = await servers.call("node", "get-structured-content", {"location": "New York"})
    assert structured.structured == json.loads(structured.text)
    assert (await stop_and_count(pen, servers))[0] == 1


async def test_the_filesystem_server_reads_and_refuses(pen, node_server, tmp_path):
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "a.txt").write_text("contents of a")
    servers = pen.servers(node_server("server-filesystem", str(tmp_path / "shared")))
    read = await servers.call("node", "read_text_file", {"path": str(tmp_path / "shared" / "a.txt")})
    assert (read.text, read.is_error) == ("contents of a", False)
    refused = await servers.call("node", "read_text_file", {"path": "/etc/hostname"})
    assert refused.is_error
    assert "outside allowed directories" in refused.text
    assert (await stop_and_count(pen, servers))[0] == 1


async def test_npx_and_what_it_starts_are_one_server(pen, npx_server):
    servers = pen.servers(npx_server("server-everything"))
    assert (await servers.call("npx", "echo", {"message": "x"})).text == "Echo: x"
    count, took = await stop_and_count(pen, servers)
    assert count == PROCESSES_OF_NPX
    assert took < 3.0


async def test_what_outlives_a_killed_npx_is_ended(pen, npx_server):
    """SIGKILL of npm leaves sh and node with the pipes open: they would serve on for ever."""
    servers = pen.servers(npx_server("server-everything"))
    await servers.tools()
    members = pen.members()
    assert len(members) == PROCESSES_OF_NPX
    descriptors = pidfds(members)
    call = asyncio.create_task(servers.call("npx", "trigger-long-running-operation", {"duration": 30, "steps": 3}))
    await servers.call("npx", "echo", {"message": "x"})
    os.kill(servers.reports()[0].pid, signal.SIGKILL)
    with pytest.raises(ServerDied, match="it was killed by SIGKILL"):
        await call
    async with asyncio.timeout(30):
        while servers.reports()[0].state != "broken":
            await asyncio.sleep(0.005)
    assert all_dead(descriptors)
    assert (await servers.call("npx", "echo", {"message": "again"})).text == "Echo: again"
    assert servers.reports()[0].generation == 2
    assert (await stop_and_count(pen, servers))[0] == PROCESSES_OF_NPX


async def test_a_cancelled_call_of_a_real_server_leaves_it_usable(pen, node_server):
    servers = pen.servers(node_server("server-everything"))
    await servers.tools()
    call = asyncio.create_task(servers.call("node", "trigger-long-running-operation", {"duration": 30, "steps": 3}))
    await servers.call("node", "echo", {"message": "x"})
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert (await servers.call("node", "echo", {"message": "after"})).text == "Echo: after"
    assert servers.reports()[0].generation == 1


async def test_all_of_them_at_once(pen, python_server, node_server, npx_server, tmp_path):
    servers = pen.servers(
        python_server("mcp_server_time", "time"),
        node_server("server-everything", name="everything"),
        node_server("server-filesystem", str(tmp_path), name="files"),
        npx_server("server-filesystem", str(tmp_path), name="npx"),
    )
    tools = await servers.tools()
    assert {tool.server for tool in tools} == {"time", "everything", "files", "npx"}
    results = await asyncio.gather(
        servers.call("time", "get_current_time", {"timezone": "UTC"}),
        servers.call("everything", "echo", {"message": "x"}),
        servers.call("files", "list_directory", {"path": str(tmp_path)}),
        servers.call("npx", "list_directory", {"path": str(tmp_path)}),
    )
    assert not any(result.is_error for result in results)
    count, took = await stop_and_count(pen, servers)
    assert count == 3 + PROCESSES_OF_NPX
    assert took < 3.0

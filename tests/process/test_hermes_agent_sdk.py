"""MCP servers of workers that run where hermes-agent is installed, with the older version of the MCP SDK."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NoReturn

import pytest
from harness.certificates import Authority
from harness.hermes.environment import PYTHON, has_hermes
from harness.mcp_http import EVERYTHING, Running, everything, figures_of, guarded, modern, visit
from harness.mcp_pool import Scene
from harness.ports import free_port
from harness.scene import HOSTILE

from hermesd.supervisor.config.settings import McpServer, OAuth
from hermesd.supervisor.oauth.login import login

pytestmark = [
    pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="workers are looked at in /proc"),
    pytest.mark.slow,
]

LIFE = 2.0

AGENT = """
from hermesd.workers.agents.contract import Sample
from hermesd.workers.agents.demo import Demo


class Probe(Demo):
    async def sample(self, request):
        return Sample(f"at most {request.max_tokens}", "a-model")
"""


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def far(lacking: Callable[[str], NoReturn], authority: Authority) -> Iterator[dict[str, Running]]:
    if not has_hermes(PYTHON):
        lacking(f"no {PYTHON}: scripts/lib/hermes.sh makes it")
    if shutil.which("node") is None or not EVERYTHING.is_file():
        lacking("server-everything is not installed: npm ci --prefix tests/node")
    own = authority.certify("server")
    options = ("--certificate", own.certificate, "--key", own.key, "--authority", authority.certificate)
    with ExitStack() as stack:
        yield {
            "http": stack.enter_context(everything("streamableHttp", port=free_port())),  # again after it was killed
            "sse": stack.enter_context(everything("sse", path="/sse")),
            "modern": stack.enter_context(modern(*map(str, options))),
            "guarded": stack.enter_context(guarded(life=LIFE)),
        }


@pytest.fixture
async def scene(tmp_path: Path, far: dict[str, Running], authority: Authority) -> AsyncIterator[Scene]:
    client = authority.certify("client", password="secret")
    secured = McpServer(
        url=far["modern"].url, connect_timeout=60, headers={"X-Key": "swan"}, ssl_verify=str(authority.certificate),
        client_cert=(str(client.certificate), str(client.key), "secret"),
    )  # fmt: skip
    (tmp_path / "probe_agent.py").write_text(AGENT)
    servers = {
        "http": McpServer(url=far["http"].url, connect_timeout=60),
        "sse": McpServer(url=far["sse"].url, transport="sse", connect_timeout=60),
        "modern": secured,
        "abroad": secured.model_copy(update={"url": far["modern"].url.replace("/mcp", "/abroad")}),
        "guarded": McpServer(url=far["guarded"].url, auth="oauth", connect_timeout=60, oauth=OAuth(timeout=60)),
        "stdio": McpServer(command=sys.executable, args=("-S", str(HOSTILE), "be_plain"), connect_timeout=60),
    }
    made = await Scene(tmp_path, servers, python=str(PYTHON), agent="probe_agent:Probe").start()
    yield made
    await made.close()


def test_it_is_the_older_version(far: dict[str, Running]) -> None:
    program = "import importlib.metadata; print(importlib.metadata.version('mcp'))"
    said = subprocess.run([PYTHON, "-c", program], capture_output=True, text=True, check=True)
    assert said.stdout.startswith("1."), said.stdout


async def test_every_kind_of_server_serves_a_worker_there(scene: Scene, far: dict[str, Running]) -> None:
    ann, bob = await scene.session("ann"), await scene.session("bob")
    tools = {line.split(" ")[0] for line in (await scene.say(ann, "!tools")).splitlines()}
    assert {"http.echo", "sse.echo", "modern.add", "stdio.echo", "http.read_resource", "sse.get_prompt"} <= tools
    for kind in ("http", "sse"):
        assert await scene.call(ann, f"{kind}.echo", message="h\u00e4llo") == "Echo: h\u00e4llo"
        listed = json.loads(await scene.call(ann, f"{kind}.list_resources"))
        assert (await scene.call(ann, f"{kind}.read_resource", uri=listed["resources"][0]["uri"])).strip()
        prompt = await scene.call(ann, f"{kind}.get_prompt", name="args-prompt", arguments={"city": "Ulm"})
        assert "Ulm" in prompt
        said = await scene.call(ann, f"{kind}.trigger-sampling-request", prompt="how many?", maxTokens=100000)
        assert "at most 4096" in said

    # Tools that are others now, told over a pipe and over a stream.
    assert await scene.call(ann, "modern.add", a=2, b=40) == "42"
    assert json.loads(await scene.call(ann, "modern.headers"))["x-key"] == "swan"
    scene.mcp.pardon("abroad")
    assert "which is another server" in await scene.call(ann, "abroad.headers")
    assert await scene.call(ann, "modern.grow") == "grown"
    assert await scene.call(ann, "stdio.add", name="grown") == "added"
    async with asyncio.timeout(60):
        while not {"modern.grown", "stdio.grown"} <= {
            line.split(" ")[0] for line in (await scene.say(ann, "!tools")).splitlines()
        }:
            await asyncio.sleep(0.02)

    # A login of a person, and two workers beyond the end of its first token.
    loop = asyncio.get_running_loop()
    assert "run hermesctl mcp login guarded" in await scene.call(ann, "guarded.add", a=2, b=40)
    await login(
        "guarded", scene.servers["guarded"], scene.tokens.store,
        show=lambda address: _visit(loop, address), pasted=asyncio.Event().wait,
    )  # fmt: skip
    scene.mcp.pardon("guarded")
    for seconds in (LIFE, 0.0):
        calls = [scene.begin(worker, "guarded.add", a=2, b=40) for worker in (ann, bob)]
        assert await asyncio.gather(*calls) == ["42", "42"]
        await asyncio.sleep(seconds)  # the token's, which nothing but time ends
    found = figures_of(far["guarded"])
    assert (found["refused"], found["reused"]) == (0, 0)
    assert found["refreshed"] >= 1

    # A server that has forgotten the session gets the call on a new one, and no fault is counted.
    far["http"].kill()
    with everything("streamableHttp", port=int(far["http"].url.split(":")[2].split("/")[0])):
        assert await scene.call(ann, "http.echo", message="again") == "Echo: again"
        entry = scene.mcp.entry("http")
        assert entry is not None
        assert (entry.budget.spawns, entry.budget.crashes) == (2, 0)

    # One that goes away is told.
    far["sse"].kill()
    assert "sse" in await scene.call(ann, "sse.echo", message="x")
    assert "http" in await scene.call(ann, "http.echo", message="x")
    assert "cannot connect" in await scene.call(ann, "http.echo", message="x")


def _visit(loop: asyncio.AbstractEventLoop, address: str) -> None:
    loop.run_in_executor(None, visit, address)

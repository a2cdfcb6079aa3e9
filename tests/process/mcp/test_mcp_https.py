"""A real server over https, with an authority of the test's own that wants to know its clients."""

from __future__ import annotations

import asyncio
import gc
import json
import re
import signal
from dataclasses import replace

import pytest
from harness.certificates import Authority
from harness.mcp_http import modern

from hermesd.ipc.mcp import ServerSpec, Tls
from hermesd.workers import containment
from hermesd.workers.mcp import sdk
from hermesd.workers.mcp.errors import CannotStart
from hermesd.workers.mcp.gate import Grant, OpenGate
from hermesd.workers.mcp.servers import Servers

PATIENCE = 40.0  # for a server that starts beside the other tests
REFUSED = "(?i)certificate.required|connection broke|ReadError|BrokenResource|Server disconnected"
"""With TLS 1.3 who has no certificate has connected before the server refuses it (RFC 8446, 4.4.2): whether its alert,
a reset or the end of the connection is seen first is the kernel's affair.
"""

pytestmark = pytest.mark.skipif(
    not hasattr(sdk.ClientSession, "discover"), reason="the server needs version 2 of the SDK"
)


class OlderRevision(OpenGate):
    """Which has connections, and looks at them."""

    def ask(self, spec, *, for_tools, then):
        then(Grant(probe=False))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("certificates")


@pytest.fixture(scope="module")
def authority(place):
    return Authority(place)


@pytest.fixture(scope="module")
def tls(authority):
    client = authority.certify("client", password="secret")
    return Tls(
        authorities=str(authority.certificate), certificate=str(client.certificate), key=str(client.key),
        password="secret",
    )  # fmt: skip


@pytest.fixture(scope="module")
def running(authority):
    own = authority.certify("server")
    options = ("--certificate", own.certificate, "--key", own.key, "--authority", authority.certificate)
    with modern(*map(str, options)) as made:
        yield made


@pytest.fixture
async def make(home):
    made = []

    def servers(*specs, warden=None):
        chosen = containment.choose(home.instance, "subreaper").containment
        made.append(
            Servers(
                specs, containment=chosen, worker="w1", tag=f"{home.instance}-0", log_dir=None, base_env={},
                warden=warden,
            )
        )  # fmt: skip
        return made[-1]

    yield servers
    for each in made:
        await each.stop(5.0)


def far(running, tls, path="/mcp", **more):
    options = {"connect_timeout": PATIENCE, "timeout": PATIENCE, **more}
    return ServerSpec("far", url=running.url.replace("/mcp", path), tls=tls, **options)


@pytest.mark.parametrize("warden", [None, OlderRevision()], ids=["stateless", "older"])
async def test_certificates_and_headers_reach_the_server(make, running, tls, warden):
    servers = make(far(running, tls, headers={"X-Key": "swan"}), warden=warden)
    assert (await servers.call("far", "add", {"a": 2, "b": 40})).text == "42"
    assert json.loads((await servers.call("far", "headers", {})).text)["x-key"] == "swan"


async def test_whoever_cannot_show_or_check_a_certificate_is_told_so(make, running, tls):
    for lacking, reason in (
        (replace(tls, authorities=""), "CERTIFICATE_VERIFY_FAILED"),
        (None, "CERTIFICATE_VERIFY_FAILED"),
        (replace(tls, certificate="", key=""), REFUSED),
        (replace(tls, password="wrong"), "(?i)ssl|decrypt|PEM"),
    ):
        with pytest.raises(CannotStart, match=reason):
            await make(far(running, lacking)).call("far", "add", {"a": 1, "b": 1})
    unchecked = replace(tls, authorities="", verify=False)
    assert (await make(far(running, unchecked)).call("far", "add", {"a": 2, "b": 40})).text == "42"


@pytest.mark.parametrize("warden", [None, OlderRevision()], ids=["stateless", "older"])
async def test_a_redirect_is_followed_on_the_same_server_and_to_no_other(make, running, tls, warden):
    at_home = make(far(running, tls, "/away", headers={"X-Key": "swan"}), warden=warden)
    assert json.loads((await at_home.call("far", "headers", {})).text)["x-key"] == "swan"
    with pytest.raises(CannotStart, match=r"it redirects to https://localhost:\d+, which is another server"):
        await make(far(running, tls, "/abroad", headers={"X-Key": "swan"}), warden=warden).call("far", "headers", {})


# asyncio leaves the socket of a TLS handshake that is cancelled to the collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_a_connection_that_does_not_answer_any_more_is_found_and_made_anew(make, running, tls):
    spec = far(running, tls, keepalive=0.1, connect_timeout=3.0)
    servers = make(spec, warden=OlderRevision())
    await servers.call("far", "add", {"a": 1, "b": 1})
    await asyncio.sleep(0.3)
    assert servers.reports()[0].state == "ready", "a look finds a living server alive"
    running.process.send_signal(signal.SIGSTOP)
    try:
        async with asyncio.timeout(PATIENCE):
            while servers.reports()[0].state != "broken":
                await asyncio.sleep(0.01)
    finally:
        running.process.send_signal(signal.SIGCONT)
    assert re.search("did not answer a ping within 3 s|no connection in time", servers.reports()[0].reason)
    servers.equip([replace(spec, connect_timeout=PATIENCE)])
    assert (await servers.call("far", "add", {"a": 2, "b": 40})).text == "42"
    gc.collect()

"""Which worker holds a shared server, and whose call is whose."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from hermesd.ipc.keeping import Gone
from hermesd.ipc.mcp import ServerSpec, ToolInfo, config_hash
from hermesd.ipc.messages import Serve, ServerReport, SharedCall, SharedCancel, SharedResult
from hermesd.supervisor.mcp import holders as module
from hermesd.supervisor.mcp.holders import Holders
from hermesd.supervisor.mcp.servers import Standing
from hermesd.workers.mcp import slot

ONE = ServerSpec("one", "x", shared=True)


class Pool:
    """What `Holders` uses of the pool; ``sent`` is (worker, message) in order."""

    def __init__(self):
        self.workers = {}
        self.sent = []
        self.stopped = []
        self.killed = []
        self.standing = {}  # of servers, where anything is known

    def make(self, name, *, session="", serves="", connected=True):
        worker = SimpleNamespace(
            id=name, session=session or None, serves=serves, connected=connected, errands=[], servers=(), ending=False
        )
        self.workers[name] = worker
        return worker

    def take_holder(self, server):
        holder = self.make(f"h{len(self.workers)}", serves=server, connected=False)
        holder.errands.append(Serve(server))
        return holder

    def send(self, worker, message):
        self.sent.append((worker.id, message))

    def stop_worker(self, worker, reason, grace):
        worker.ending = True
        self.stopped.append(worker.id)

    def kill(self, worker):
        worker.ending = True
        self.killed.append(worker.id)


@pytest.fixture
def pool():
    return Pool()


@pytest.fixture
def holders(pool):
    made = Holders(lambda: pool, lambda: 1.0, lambda server: pool.standing.get(server, Standing()))
    made.configure([ONE, ServerSpec("two", "y")])
    return made


def died(worker):
    return Gone(worker.id, -9, 0.0, 0, 0, 0.0)


def connect(pool, worker):
    """As the pool does it when the worker has said hello."""
    worker.connected = True
    for message in worker.errands:
        pool.send(worker, message)
    worker.errands.clear()


async def test_calls_of_several_sessions_go_to_one_holder_and_back_to_each(pool, holders):
    a, b = pool.make("a", session="s:a"), pool.make("b", session="s:b")
    holders.said(a, SharedCall("1", "one", "echo", {"x": 1}))
    (holder,) = [worker for worker in pool.workers.values() if worker.serves]
    connect(pool, holder)
    holders.said(b, SharedCall("1", "one", "echo", {"x": 2}))
    assert pool.sent == [
        (holder.id, Serve("one")),
        (holder.id, SharedCall("a/1", "one", "echo", {"x": 1})),
        (holder.id, SharedCall("b/2", "one", "echo", {"x": 2})),
    ]
    assert holders.under_way(holder) == 2
    pool.sent.clear()
    holders.said(holder, SharedResult("b/2", "two"))
    holders.said(holder, SharedResult("a/1", "one"))
    holders.said(holder, SharedResult("a/1", "again"))
    assert pool.sent == [("b", SharedResult("1", "two")), ("a", SharedResult("1", "one"))]


async def test_the_death_of_a_holder_is_told_to_the_calls_under_way_and_the_next_call_has_another(pool, holders):
    a = pool.make("a", session="s:a")
    holders.said(a, SharedCall("1", "one", "echo"))
    first = pool.workers["h1"]
    del pool.workers["h1"]
    holders.gone(first, died(first))
    ((worker, result),) = pool.sent
    assert (worker, result.call) == ("a", "1")
    assert "'one' ended during the call" in result.error
    holders.said(a, SharedCall("2", "one", "echo"))
    assert [each.serves for each in pool.workers.values()] == ["", "one"]


async def test_holders_that_die_again_and_again_are_not_started_for_a_while(pool, holders, monkeypatch):
    a = pool.make("a", session="s:a")
    now = [1000.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    for number in range(module.DEATHS):
        holders.said(a, SharedCall(str(number), "one", "echo"))
        (holder,) = [worker for worker in pool.workers.values() if worker.serves]
        del pool.workers[holder.id]
        holders.gone(holder, died(holder))
    pool.sent.clear()
    holders.said(a, SharedCall("last", "one", "echo"))
    ((_, result),) = pool.sent
    assert "is tried again in 60 s, or after: hermesctl mcp reset one" in result.error
    now[0] += module.WITHIN
    holders.said(a, SharedCall("next", "one", "echo"))
    assert [worker for worker in pool.workers.values() if worker.serves]


async def test_a_person_may_have_holders_that_died_tried_again_at_once(pool, holders):
    a = pool.make("a", session="s:a")
    for number in range(module.DEATHS):
        holders.said(a, SharedCall(str(number), "one", "echo"))
        (holder,) = [worker for worker in pool.workers.values() if worker.serves]
        del pool.workers[holder.id]
        holders.gone(holder, died(holder))
    holders.pardon("one")
    holders.said(a, SharedCall("next", "one", "echo"))
    assert [worker for worker in pool.workers.values() if worker.serves]


async def test_the_end_of_a_session_cancels_its_own_calls_only(pool, holders):
    a, b = pool.make("a", session="s:a"), pool.make("b", session="s:b")
    for worker in (a, b):
        holders.said(worker, SharedCall("1", "one", "slow"))
    holder = pool.workers["h2"]
    connect(pool, holder)
    pool.sent.clear()
    del pool.workers["a"]
    holders.gone(a, died(a))
    holders.said(b, SharedCancel("7"))
    assert pool.sent == [(holder.id, SharedCancel("a/1"))]
    holders.said(b, SharedCancel("1"))
    assert pool.sent[1:] == [(holder.id, SharedCancel("b/2"))]
    assert holders.under_way(holder) == 0


async def test_a_server_that_is_shared_no_more_ends_after_its_last_call(pool, holders):
    a = pool.make("a", session="s:a")
    holders.said(a, SharedCall("1", "one", "echo"))
    holder = pool.workers["h1"]
    connect(pool, holder)
    holders.configure([ServerSpec("one", "x")])
    assert pool.stopped == []
    pool.sent.clear()
    holders.said(a, SharedCall("2", "one", "echo"))
    assert "no MCP server 'one' that all sessions share" in pool.sent[0][1].error
    holders.said(holder, SharedResult("a/1", "done"))
    assert pool.sent[1] == ("a", SharedResult("1", "done"))
    assert pool.stopped == [holder.id]
    holder.ending = False  # its kill is due: it is gone by then
    del pool.workers[holder.id]


async def test_an_unused_holder_ends_when_its_server_has_ended(pool, holders, monkeypatch):
    monkeypatch.setattr(module, "IDLE_SECONDS", 0.0)
    a = pool.make("a", session="s:a")
    holders.said(a, SharedCall("1", "one", "echo"))
    holder = pool.workers["h1"]
    connect(pool, holder)
    holder.servers = (ServerReport("one", 1, "ready", 1),)
    holders.said(holder, SharedResult("a/1"))
    own = holders._holders["one"]
    holders._look(own)
    assert pool.stopped == []
    holder.servers = (ServerReport("one", 1, "stopped"),)
    holders._look(own)
    assert pool.stopped == ["h1"]
    own.timer = None


class Limits:
    """What `Holders` tells and asks whoever keeps the limits."""

    def __init__(self):
        self.told = []

    def turn_begins(self):
        self.told.append("begins")

    def after_calls(self, worker):
        self.told.append(f"after calls of {worker.id}")

    def why_it_ended(self, worker, gone):
        return "it used too much" if gone.out_of_memory else ""


def end_of(pool, holders, worker, **gone):
    del pool.workers[worker.id]
    holders.gone(worker, Gone(worker.id, -9, 0.0, 0, 0, 0.0, **gone))


async def test_one_that_has_used_up_what_it_may_goes_between_two_calls_and_the_next_waits_for_its_end(pool, holders):
    limits = Limits()
    holders.use(limits)
    a, b = pool.make("a", session="s:a"), pool.make("b", session="s:b")
    holders.said(a, SharedCall("1", "one", "echo"))
    first = pool.workers["h2"]
    connect(pool, first)
    assert list(holders.busy()) == [first]
    holders.recycle(first, "it was old")
    assert pool.stopped == [], "not during a call"
    holders.said(first, SharedResult("a/1", "done"))
    assert limits.told == ["begins", "after calls of h2"]
    holders.recycle(first, "it was old")
    assert (pool.stopped, first.ended_for) == (["h2"], "recycled: it was old")
    pool.sent.clear()
    for worker in (a, b):
        holders.said(worker, SharedCall("2", "one", "echo"))
    holders.said(b, SharedCancel("2"))
    assert [each.id for each in pool.workers.values() if each.serves] == ["h2"], "no two of them side by side"
    end_of(pool, holders, first)
    (second,) = [each for each in pool.workers.values() if each.serves]
    connect(pool, second)
    assert pool.sent == [(second.id, Serve("one")), (second.id, SharedCall("a/1", "one", "echo"))]


async def test_one_over_a_hard_limit_is_killed_and_its_calls_are_told_why_also_when_the_kernel_did_it(pool, holders):
    holders.use(Limits())
    a = pool.make("a", session="s:a")
    for number in range(module.DEATHS):
        holders.said(a, SharedCall(str(number), "one", "echo"))
        (holder,) = [each for each in pool.workers.values() if each.serves]
        if number % 2:
            end_of(pool, holders, holder, out_of_memory=True)
        else:
            holders.end(holder, "it used too much")
            assert pool.killed[-1] == holder.id
            end_of(pool, holders, holder)
        assert pool.sent[-1][1].error.endswith("together with the worker that held it: it used too much")
    holders.said(a, SharedCall("last", "one", "echo"))
    assert "is tried again in" in pool.sent[-1][1].error


async def test_a_holder_goes_on_where_its_process_does_and_ends_where_there_is_to_be_another(pool, holders):
    a = pool.make("a", session="s:a")
    one = replace(ONE, config=config_hash(ONE))
    holders.configure([one])
    holders.said(a, SharedCall("1", "one", "echo"))
    holders.said(pool.workers["h1"], SharedResult("a/1"))
    holders.configure([replace(one, timeout=9.0, include=("echo",))])
    assert pool.stopped == []
    another = replace(one, args=("-v",))
    holders.configure([replace(another, config=config_hash(another))])
    assert pool.stopped == ["h1"]
    del pool.workers["h1"]


def test_what_counts_as_the_end_of_a_server_is_what_its_worker_means_by_it():
    assert {str(state) for state in slot.AT_REST} == module.AT_REST


async def test_tools_that_are_known_start_no_holder_and_ask_none(pool, holders):
    a = pool.make("a", session="s:a")
    tools = (ToolInfo("echo", "", {}),)
    pool.standing["one"] = Standing(tools)
    holders.said(a, SharedCall("1", "one", ""))
    assert pool.sent == [("a", SharedResult("1", tools=tools))]
    assert list(pool.workers) == ["a"]
    holders.said(a, SharedCall("2", "one", "", {"start": True}))
    assert list(pool.workers) == ["a", "h1"], "whoever wants it started gets that"


async def test_nobody_waits_for_the_tools_of_a_server_that_has_failed(pool, holders):
    a = pool.make("a", session="s:a")
    pool.standing["one"] = Standing(None, "exit 1")
    holders.said(a, SharedCall("1", "one", ""))
    ((_, result),) = pool.sent
    assert (result.call, result.error) == ("1", "MCP server 'one': exit 1")
    assert list(pool.workers) == ["a"], "there is nothing to try yet"
    pool.standing["one"] = Standing(None, "exit 1", due=True)
    holders.said(a, SharedCall("2", "one", ""))
    assert pool.sent[1:] == [("a", SharedResult("2", error="MCP server 'one': exit 1"))]
    holder = pool.workers["h1"]
    assert holder.errands == [Serve("one"), SharedCall("a/1", "one", "")], "it is tried all the same"
    assert holders.under_way(holder) == 0
    holders.said(holder, SharedResult("a/1"))
    assert len(pool.sent) == 2

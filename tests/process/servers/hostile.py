"""An MCP server written by hand, JSON-RPC line by line, that misbehaves in the way its first argument names.

``hostile.py HABIT``: a name of `HABITS`. Each process of it connects to the Unix socket in CONNECT_BACK and says its
pid; the end of that connection is the proof of its death.
"""

import json
import os
import signal
import socket
import sys
import threading
import time

LIMIT = 600  # seconds after which even a forgotten process ends
TOOLS = [
    "echo",
    "slow",
    "exit",
    "kill",
    "environment",
    "cancelled",
    "big",
    "add",
    "close_stdout",
    "deaf",
    "error",
    "loud",
]


class Server:
    """Answers requests; a habit changes what it does with one."""

    def __init__(self):
        self.lock = threading.Lock()
        self.cancelled = []
        self.waiting = {}
        self.kept = []
        self.tools = list(TOOLS)
        self.silent_on = ()
        self.exit_on = ()
        self.noise = ()
        self.refuse = (-32601, "Method not found")

    def write(self, message):
        with self.lock:
            for line in self.noise:
                sys.stdout.buffer.write(line)
            sys.stdout.buffer.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")
            sys.stdout.buffer.flush()

    def serve(self):
        for line in sys.stdin.buffer:
            message = json.loads(line)
            method, params = message.get("method"), message.get("params") or {}
            if method in self.exit_on:
                sys.stderr.write(f"I do not know {method}\n")
                sys.stderr.flush()
                os._exit(7)
            if method in self.silent_on:
                time.sleep(LIMIT)
            if method == "notifications/cancelled":
                self.cancelled.append(params.get("requestId"))
                self.waiting.pop(params.get("requestId"), threading.Event()).set()
            if "id" in message:
                self.answer(message["id"], method, params)

    def answer(self, number, method, params):
        if method == "initialize":
            server = {"name": "hostile", "version": "1"}
            capabilities = {"tools": {"listChanged": True}}
            version = params["protocolVersion"]
            result = {"protocolVersion": version, "capabilities": capabilities, "serverInfo": server}
            self.write({"id": number, "result": result})
        elif method == "tools/list":
            self.write({"id": number, "result": self.page(params.get("cursor"))})
        elif method == "tools/call":
            self.call(number, params["name"], params.get("arguments") or {})
        elif method == "ping":
            self.write({"id": number, "result": {}})
        else:
            self.write({"id": number, "error": dict(zip(("code", "message"), self.refuse, strict=True))})

    def page(self, cursor):
        """Two tools a page."""
        start = int(cursor or 0)
        tools = [{"name": name, "description": f"{name}!", "inputSchema": {"type": "object"}} for name in self.tools]
        page = {"tools": tools[start : start + 2]}
        if start + 2 < len(tools):
            page["nextCursor"] = str(start + 2)
        return page

    def call(self, number, name, arguments):
        if name == "slow":
            over = self.waiting[number] = threading.Event()
            threading.Thread(target=self.slow, args=(number, over, arguments), daemon=True).start()
        elif name == "exit":
            sys.stderr.write("first words\nI am out of cheese\n")
            sys.stderr.flush()
            os._exit(arguments["status"])
        elif name == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif name == "error":
            self.write({"id": number, "error": {"code": arguments["code"], "message": "as you wish"}})
        elif name == "close_stdout":
            os.close(1)
        elif name == "deaf":
            time.sleep(LIMIT)
        elif name == "loud":
            sys.stderr.write("x" * arguments["size"] + "\n")
            sys.stderr.flush()
            self.reply(number, "done")
        elif name == "grow":
            child(lambda: grow(arguments["deep"]))
        elif name == "use":
            threading.Thread(target=self.use, args=(number, arguments), daemon=True).start()
        elif name == "burn":
            threading.Thread(target=burn, daemon=True).start()
            self.reply(number, "burning")
        elif name == "environment":
            self.reply(number, json.dumps(dict(os.environ)))
        elif name == "cancelled":
            self.reply(number, json.dumps(self.cancelled))
        elif name == "big":
            self.reply(number, "x" * arguments["size"])
        elif name == "add":
            self.tools.append(arguments["name"])
            self.write({"method": "notifications/tools/list_changed"})
            self.reply(number, "added")
        elif name in self.tools:
            self.reply(number, f"{name}: {json.dumps(arguments)}")
        else:
            self.write({"id": number, "error": {"code": -32602, "message": f"Unknown tool: {name}"}})

    def slow(self, number, over, arguments):
        """For so many seconds, or until a file is there; a call that is cancelled has no reply. ``begun``: a file that
        is there as soon as the call has come.
        """
        if begun := arguments.get("begun"):
            with open(begun, "w"):
                pass
        if until := arguments.get("until"):
            while not os.path.exists(until) and not over.wait(0.01):
                pass
        if not over.wait(0 if until else arguments["seconds"]):
            self.reply(number, f"after {until or arguments['seconds']}")

    def use(self, number, arguments):
        """So many MiB that are its own, and then so long until the answer."""
        block = bytearray(arguments["mib"] << 20)
        block[::4096] = b"x" * (arguments["mib"] << 8)
        self.kept.append(block)
        time.sleep(arguments.get("seconds", 0))
        self.reply(number, f"used {arguments['mib']} MiB in {os.getpid()}")

    def reply(self, number, text):
        self.write({"id": number, "result": {"content": [{"type": "text", "text": text}]}})


def connect_back():
    path = os.environ.get("CONNECT_BACK")
    if not path:
        return
    global connection
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(path)
    connection.sendall(b"%d\n" % os.getpid())


def child(work, *, session=False, orphan=False):
    """Fork a process that connects back; ``orphan``: its parent, a fork of this one, is gone."""
    pid = os.fork()
    if pid:
        os.waitpid(pid, 0) if orphan else None
        return
    if session:
        os.setsid()
    if orphan and os.fork():
        os._exit(0)
    connection.close()
    connect_back()
    work()
    os._exit(0)


def grow(deep):
    """A chain of processes below this one, each in a session of its own, none of which wants to end."""
    if deep > 1:
        child(lambda: grow(deep - 1), session=True)
    linger()


def burn():
    while True:
        pass


def linger():
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    time.sleep(LIMIT)


def be_plain(server):
    server.serve()


def ignore_everything(server):
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    server.serve()
    time.sleep(LIMIT)


def leave_a_child(server):
    """Exits 0 at the end of its input, as it should, and leaves a child that does not care."""
    child(linger, session=True)
    server.serve()


def double_fork(server):
    child(linger, session=True, orphan=True)
    server.serve()


def hide(server):
    """An orphan in a session of its own, with an environment that tells nothing."""

    def run():
        here = os.path.abspath(__file__)
        os.execve(sys.executable, [sys.executable, "-S", here, "only_linger", os.environ["CONNECT_BACK"]], {})

    child(run, session=True, orphan=True)
    server.serve()


def hold_the_pipes(server):
    """A child keeps stdin's read end and stdout open when the leader is gone."""
    child(linger)
    server.serve()


def stop_itself(server):
    """Stopped, it takes no TERM until a CONT."""
    child(lambda: (os.kill(os.getpid(), signal.SIGSTOP), linger()))
    server.serve()
    os.kill(os.getpid(), signal.SIGSTOP)


def write_garbage(server):
    server.noise = (
        b"Server listening on stdio\n", b"\n", b"{\"jsonrpc\": \"2.0\"\n", b"\xff\xfe\n", b"[]\n", b"{}\n",
        b"{\"jsonrpc\": \"2.0\", \"id\": 99999, \"result\": {}}\n",
    )  # fmt: skip
    server.serve()


def die_of_the_probe(server):
    server.exit_on = ("server/discover",)
    server.serve()


def hang_at_the_probe(server):
    server.silent_on = ("server/discover",)
    server.serve()


def refuse_oddly(server):
    """Answers what it does not know with the code that the SDK uses for a closed connection."""
    server.refuse = (-32000, "Bad Request: Server not initialized")
    server.serve()


def die_at_once(server):
    sys.exit("no API key: set HOSTILE_KEY")


def die_until_healed(server):
    if not os.path.exists(os.environ["HEALED"]):
        die_at_once(server)
    server.serve()


def wait_for_healing(server):
    """Hangs in the handshake until a file is there."""
    while not os.path.exists(os.environ["HEALED"]):
        time.sleep(0.01)
    server.serve()


def never_read(server):
    time.sleep(LIMIT)


def flood_stderr(server):
    rate = float(os.environ.get("FLOOD_MB_PER_SECOND", "inf")) * 1e6

    def flood():
        began, written = time.monotonic(), 0
        while True:
            if written > (time.monotonic() - began) * rate:
                time.sleep(0.001)
            else:
                written += os.write(2, b"spam " * 1000 + b"\n")

    threading.Thread(target=flood, daemon=True).start()
    server.serve()


def fill_stdout_at_the_end(server):
    """Writes more than a pipe holds before it ends politely."""
    server.serve()
    sys.stdout.buffer.write(b"x" * (4 << 20))
    sys.stdout.buffer.flush()


HABITS = {
    habit.__name__: habit
    for habit in (
        be_plain, ignore_everything, leave_a_child, double_fork, hide, hold_the_pipes, stop_itself, write_garbage,
        die_of_the_probe, hang_at_the_probe, refuse_oddly, die_at_once, die_until_healed, wait_for_healing, never_read,
        flood_stderr, fill_stdout_at_the_end,
    )
}  # fmt: skip

if __name__ == "__main__":
    if sys.argv[1] == "only_linger":
        os.environ["CONNECT_BACK"] = sys.argv[2]
        connect_back()
        linger()
    connect_back()
    HABITS[sys.argv[1]](Server())

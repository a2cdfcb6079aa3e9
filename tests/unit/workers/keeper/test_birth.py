from __future__ import annotations

import os
import signal
import sys

import pytest

from hermesd.workers.keeper import birth, preload


@pytest.mark.parametrize(
    ("agent", "modules"),
    [("", ()), ("demo", ("hermesd.workers.agents.demo",)), ("pkg.mod:make", ("pkg.mod",)), ("offered", ("offered",))],
)
def test_what_to_import_ahead(agent: str, modules: tuple[str, ...]) -> None:
    assert birth.agent_modules(agent) == modules


def test_a_forked_worker_keeps_the_named_descriptors_only_and_forgets_the_keepers_signals() -> None:
    read, write = os.pipe()
    others = [os.open(os.devnull, os.O_RDONLY) for _ in range(5)]
    kept = os.open(os.devnull, os.O_RDONLY)
    old = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    pid = os.fork()
    if pid == 0:
        birth.cut_loose(keep=(kept, write))
        listed = [int(name) for name in os.listdir("/proc/self/fd")]
        # One of them was the listing's own.
        held = sorted(
            descriptor for descriptor in listed if descriptor > 2 and os.path.lexists(f"/dev/fd/{descriptor}")
        )
        text = f"{held} {signal.getsignal(signal.SIGTERM) is signal.SIG_DFL}"
        os.write(write, text.encode())
        os._exit(0)
    signal.signal(signal.SIGTERM, old)
    os.waitpid(pid, 0)
    said = os.read(read, 4096).decode()
    for descriptor in (read, write, kept, *others):
        os.close(descriptor)
    assert said == f"{sorted([write, kept])} True"


class TestPreload:
    @pytest.fixture(autouse=True)
    def _modules(self, tmp_path, monkeypatch) -> None:
        (tmp_path / "fine_module.py").write_text("x = 1\n")
        (tmp_path / "broken_module.py").write_text("raise KeyError('no')\n")
        (tmp_path / "thread_module.py").write_text(
            "import threading, time\nthreading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n"
        )
        (tmp_path / "loud_module.py").write_text("print('hello from the import')\n")
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.setattr(preload.gc, "freeze", lambda: None)
        yield
        for name in ("fine_module", "broken_module", "thread_module", "loud_module"):
            sys.modules.pop(name, None)

    def test_a_sound_module_is_imported(self) -> None:
        assert preload.preload(["fine_module"]).warnings == ()
        assert "fine_module" in sys.modules

    def test_a_broken_one_is_named_and_keeps_nothing_from_starting(self) -> None:
        loaded = preload.preload(["broken_module", "fine_module"])
        assert loaded.warnings == ("cannot preload broken_module: KeyError: 'no'",)
        assert "fine_module" in sys.modules

    def test_probed_modules_are_tried_elsewhere_first(self) -> None:
        loaded = preload.preload([], probed=["thread_module", "broken_module", "loud_module"])
        assert loaded.warnings == (
            "thread_module left out of the preload: it starts a thread when imported",
            "broken_module left out of the preload: KeyError: 'no'",
        )
        assert "thread_module" not in sys.modules
        assert "loud_module" in sys.modules

    def test_a_thread_of_this_process_is_seen(self) -> None:
        import threading

        ready, go = threading.Event(), threading.Event()
        thread = threading.Thread(target=lambda: (ready.set(), go.wait()))
        before = preload.threads()
        thread.start()
        ready.wait()
        try:
            assert preload.threads() == before + 1
            assert not preload.preload([]).single_threaded
        finally:
            go.set()
            thread.join()

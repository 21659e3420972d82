"""The thread for what is the user's: in order, and whatever is raised there."""

from __future__ import annotations

import threading

from fakes.gates import eventually

from dask_taskrunner.hook_thread import HookThread


def test_calls_are_made_one_after_the_other_in_their_order():
    hooks, seen, done = HookThread("hooks"), [], threading.Event()
    for n in range(100):
        hooks.call(seen.append, n)
    hooks.call(done.set)
    assert done.wait(10)
    assert seen == list(range(100))


def test_the_thread_ends_when_there_is_nothing_to_call_and_comes_again():
    hooks, seen = HookThread("hooks-that-come-again"), []
    for _ in range(2):
        hooks.call(lambda: seen.append(threading.current_thread()))
        assert eventually(lambda: seen and not seen[-1].is_alive())
    assert seen[0] is not seen[1]


def test_whatever_is_raised_is_logged_and_the_next_call_is_made(caplog):
    hooks, done = HookThread("hooks"), threading.Event()

    def broken():
        raise SystemExit("no")

    hooks.call(broken)
    hooks.call(done.set)
    assert done.wait(10)
    assert "hooks: SystemExit: no" in caplog.text


def test_when_the_interpreter_starts_no_threads_any_more_calls_are_made_at_once(monkeypatch):
    def start(self):
        raise RuntimeError("can't create new thread at interpreter shutdown")

    monkeypatch.setattr(threading.Thread, "start", start)
    hooks, seen = HookThread("hooks"), []
    hooks.call(seen.append, 1)
    hooks.call(seen.append, 2)
    assert seen == [1, 2]

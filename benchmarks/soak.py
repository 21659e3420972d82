"""Random flows on workers that are killed all the time, beside an oracle that knows no Dask.

Task bodies are deterministic functions of their inputs and their run number, so whatever is killed,
a run has one right end. Another process kills a worker every few seconds; see `kill_workers`.
"""

from __future__ import annotations

import contextlib
import logging
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from distributed import Client, LocalCluster

from dask_taskrunner import DaskTaskRunner, Flow, FlowRun, context, task, triggers, unmapped

WORKERS = 3
#: So many flow runs are under way at once.
AT_ONCE = 4
#: A run that takes longer than this hangs.
LIMIT = 120.0
TRIGGERS = {
    "all_successful": triggers.all_successful,
    "all_finished": triggers.all_finished,
    "any_successful": triggers.any_successful,
}


class Node(NamedTuple):
    """One task of a random flow."""

    name: str
    #: ``value list flaky failing each reduce``.
    kind: str
    upstream: tuple[int, ...]
    trigger: str
    #: How long a body takes, in seconds.
    seconds: float
    #: How many times a flaky body fails; how many elements a list has.
    number: int


def make_nodes(seed: int) -> list[Node]:
    """Return a random flow."""
    rng = random.Random(seed)
    nodes: list[Node] = []
    for n in range(rng.randint(4, 14)):
        lists = [i for i, node in enumerate(nodes) if node.kind == "list"]
        maps = [i for i, node in enumerate(nodes) if node.kind == "each"]
        plain = [i for i, node in enumerate(nodes) if node.kind not in ("list", "each")]
        kinds = ["value", "value", "list", "flaky", "failing"]
        kinds += ["each"] * 2 * bool(lists) + ["reduce"] * 2 * bool(maps)
        kind = rng.choice(kinds)
        upstream = rng.sample(plain, min(len(plain), rng.randint(0, 2)))
        if kind == "list":
            upstream = []
        elif kind in ("each", "reduce"):
            upstream = [rng.choice(lists if kind == "each" else maps)]
        trigger = "all_successful" if kind == "each" else rng.choice([*TRIGGERS])
        seconds = rng.choice([0.0, 0.0, 0.05, 0.2, 0.5])
        number = rng.randint(1, 4)
        nodes.append(Node(f"{kind}{n}", kind, tuple(upstream), trigger, seconds, number))
    return nodes


# --- as a flow -----------------------------------------------------------------------------------


def body(kind: str, n: int, number: int, seconds: float, *inputs: Any) -> Any:
    """Do what a node does."""
    time.sleep(seconds)
    if kind == "failing":
        raise ValueError(n)
    if kind == "flaky" and context.task_run_number <= number:
        raise ConnectionError(n)
    if kind == "list":
        return list(range(number))
    if kind == "each" and inputs[0] % 3 == 2:
        raise ValueError(inputs[0])
    return n + _total(inputs)


def _total(inputs: Sequence[Any]) -> int:
    """Return the sum of what has come; what is missing is no number."""
    flat = [x for value in inputs for x in (value if isinstance(value, list) else [value])]
    return sum(x for x in flat if isinstance(x, int))


def make_flow(seed: int, nodes: Sequence[Node], budget: int) -> Flow:
    """Return a random flow as one that can be run."""
    made: list[Any] = []
    with Flow(f"soak-{seed}") as flow:
        for n, node in enumerate(nodes):
            definition = task(
                body,
                name=node.name,
                trigger=TRIGGERS[node.trigger],
                max_retries=node.number if node.kind == "flaky" else 0,
                retry_delay=0.05,
                max_crash_retries=budget,
            )
            sources = [made[i] for i in node.upstream]
            own = (node.kind, n, node.number, node.seconds)
            if node.kind == "each":
                made.append(definition.map(*map(unmapped, own), *sources))
            else:
                made.append(definition(*own, *sources))
        flow.set_reference_tasks([made[-1]])
    return flow


def node_length(nodes: Sequence[Node], node: Node) -> int:
    """Return how many elements a node is mapped over."""
    return nodes[node.upstream[0]].number


# --- without Dask --------------------------------------------------------------------------------


def oracle(nodes: Sequence[Node], crashed: frozenset[str]) -> dict[str, tuple[str, Any]]:
    """Return the right state, and value, of each task run; of those that crashed, `Crashed`."""
    ends: dict[str, tuple[str, Any]] = {}
    for n, node in enumerate(nodes):
        if node.kind == "each":
            ends.update(_children(nodes, node, n, ends, crashed))
            continue
        sources = [part for i in node.upstream for part in _parts(nodes, i, ends)]
        ends[node.name] = _end(node, n, sources, [_input(nodes, i, ends) for i in node.upstream])
        if node.name in crashed:
            ends[node.name] = ("Crashed", None)
    return ends


def _children(
    nodes: Sequence[Node],
    node: Node,
    n: int,
    ends: Mapping[str, tuple[str, Any]],
    crashed: frozenset[str],
) -> dict[str, tuple[str, Any]]:
    source = ends[nodes[node.upstream[0]].name]
    if source[0] != "Success":
        return {node.name: ("TriggerFailed", None)}
    children: dict[str, tuple[str, Any]] = {node.name: ("Mapped", None)}
    for i in source[1]:
        slug = f"{node.name}[{i}]"
        children[slug] = ("Failed", None) if i % 3 == 2 else ("Success", n + i)
        if slug in crashed:
            children[slug] = ("Crashed", None)
    return children


def _parts(
    nodes: Sequence[Node], i: int, ends: Mapping[str, tuple[str, Any]]
) -> list[tuple[str, Any]]:
    """Return what a trigger sees of a node: of a mapped one, its children."""
    name = nodes[i].name
    if ends[name][0] != "Mapped":
        return [ends[name]]
    return [ends[f"{name}[{j}]"] for j in range(node_length(nodes, nodes[i]))]


def _input(nodes: Sequence[Node], i: int, ends: Mapping[str, tuple[str, Any]]) -> Any:
    values = [value for _, value in _parts(nodes, i, ends)]
    return values if ends[nodes[i].name][0] == "Mapped" else values[0]


def _end(node: Node, n: int, sources: list[tuple[str, Any]], inputs: list[Any]) -> tuple[str, Any]:
    good = sum(state == "Success" for state, _ in sources)
    passes = {
        "all_successful": good == len(sources),
        "all_finished": True,
        "any_successful": good > 0,
    }
    if sources and not passes[node.trigger]:
        return "TriggerFailed", None
    if node.kind == "failing":
        return "Failed", None
    return "Success", list(range(node.number)) if node.kind == "list" else n + _total(inputs)


def wrong_in(run: FlowRun, nodes: Sequence[Node], budget: int) -> list[str]:
    """Return what in a run is not as it has to be."""
    slugs = {one.slug: one for one in run.task_runs}
    # Only who was killed more often than its budget allows may have crashed.
    crashed = frozenset(
        slug
        for slug, one in slugs.items()
        if type(one.state).__name__ == "Crashed"
        and sum(attempt.outcome == "worker-lost" for attempt in one.attempts) > budget
    )
    right = oracle(nodes, crashed)
    found = {slug: type(one.state).__name__ for slug, one in slugs.items()}
    wrong = [
        f"{slug}: {found.get(slug)} and not {state}"
        for slug, (state, _) in right.items()
        if found.get(slug) != state
    ]
    wrong += [f"{slug}: nobody knows it" for slug in found.keys() - right.keys()]
    last = nodes[-1]
    if not wrong and right[last.name][0] == "Success":
        result = run.result(last.name)
        if result != right[last.name][1]:
            wrong.append(f"{last.name}: {result!r} and not {right[last.name][1]!r}")
    return wrong


# --- the soak ------------------------------------------------------------------------------------


def kill_workers(address: str, every: float, seed: int) -> None:
    """Kill a worker now and then, for ever; print its process for each."""
    rng = random.Random(seed)
    with Client(address, set_as_default=False) as client:
        while True:
            time.sleep(rng.uniform(0.5, 1.5) * every)
            pids = client.run(os.getpid, on_error="ignore")
            # Somebody has to be left to go on.
            if len(pids) > 1:
                pid = rng.choice(sorted(pids.values()))
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                    print(pid, flush=True)


@contextlib.contextmanager
def _killing(address: str, every: float, seed: int) -> Iterator[Callable[[], int]]:
    killed: list[str] = []
    command = [sys.executable, "-m", "benchmarks", "kill-workers", address]
    command += ["--every", str(every), "--seed", str(seed)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as killer:
        assert killer.stdout is not None
        reader = threading.Thread(target=killed.extend, args=(iter(killer.stdout),))
        reader.start()
        try:
            yield lambda: len(killed)
        finally:
            killer.kill()
            reader.join()


def measure(minutes: float, seed: int, every: float, budget: int) -> list[dict[str, object]]:
    """Run random flows for so long, and return what came of them."""
    # The flows fail as they are meant to.
    logging.getLogger("dask_taskrunner").setLevel(logging.CRITICAL)
    counts: Counter[str] = Counter()
    problems: list[str] = []
    seeds = iter(range(seed, seed + 1_000_000))
    end = time.monotonic() + minutes * 60
    lock = threading.Lock()

    def go_on(runner: DaskTaskRunner) -> None:
        while time.monotonic() < end:
            with lock:
                own = next(seeds)
            nodes = make_nodes(own)
            run = runner.start(make_flow(own, nodes, budget))
            with contextlib.suppress(TimeoutError):
                run.wait(LIMIT)
            with lock:
                _take_in(run, nodes, own)

    def _take_in(run: FlowRun, nodes: Sequence[Node], own: int) -> None:
        counts["runs"] += 1
        counts["task runs"] += len(run)
        if not run._driver.ended.is_set():
            counts["hangs"] += 1
            problems.append(f"seed {own}: hangs: {run!r} {run.states}")
            run.cancel()
            return
        outcomes = [one.outcome for part in run.task_runs for one in part.attempts]
        counts["executions that were lost"] += outcomes.count("worker-lost")
        counts["re-executions"] += outcomes.count("re-executed")
        if wrong := wrong_in(run, nodes, budget):
            counts["wrong states"] += len(wrong)
            problems.extend(f"seed {own}: {text}" for text in wrong)

    with (
        LocalCluster(
            n_workers=WORKERS,
            threads_per_worker=1,
            dashboard_address=None,
            silence_logs=51,
            scheduler_kwargs={"allowed_failures": 0},
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
        DaskTaskRunner(client=client) as runner,
        _killing(cluster.scheduler_address, every, seed) as kills,
        ThreadPoolExecutor(AT_ONCE) as threads,
    ):
        for done in [threads.submit(go_on, runner) for _ in range(AT_ONCE)]:
            done.result()
        counts["kills"] = kills()
    for problem in problems:
        print(problem)
    names = ("runs", "task runs", "kills", "executions that were lost", "re-executions")
    names += ("wrong states", "hangs")
    return [{"what": name, "count": counts[name]} for name in names]

"""Random flows that fail, and are resumed: against the same flow where nothing fails.

Which task runs have to run, and which may not, is found here from what stands behind what alone.
"""

from __future__ import annotations

import random
import re
from typing import Any

import pytest
from fakes.ran import RAN, ran

from dask_taskrunner import Flow, FlowRun, context, task, unmapped
from dask_taskrunner.headers import TaskRunId
from dask_taskrunner.machine.machine import Machine

pytestmark = pytest.mark.many

Story = tuple[Flow, dict[str, Any]]


def size_of(number):
    # Some results ride in the header.
    return 0 if number % 3 == 0 else 1_000


def work(number, bad, *parts):
    ran(context.slug)
    if context.slug in bad:
        raise ValueError(context.slug)
    words = [part if isinstance(part, str) else "+".join(part) for part in parts]
    return f"{context.slug}({','.join(word.strip() for word in words)})" + " " * size_of(number)


@task
def plain(number, bad, parts):
    return work(number, bad, *parts)


@task
def several(number, bad, parts):
    made = work(number, bad, *parts)
    return [f"{made}{i}" for i in range(2 + number % 2)]


@task
def each(number, bad, x, y, parts):
    return work(number, bad, x, y, *parts)


def random_flow(seed: int, bad: frozenset[str]) -> Flow:
    """Return the same flow for the same seed."""
    rng = random.Random(seed)
    lists: list[Any] = []
    maps: list[Any] = []
    with Flow("random") as flow:
        nodes: list[Any] = []
        for number in range(rng.randint(3, 8)):
            parts = rng.sample(nodes, rng.randint(0, min(2, len(nodes))))
            after = rng.sample(nodes, rng.randint(0, 1)) if nodes and rng.random() < 0.3 else []
            kind = rng.choice(("plain", "several", "each", "each"))
            options = {"upstream_tasks": after, "task_args": {"name": f"t{number}"}}
            if kind == "each" and (lists or maps):
                over = rng.choice(lists + maps + maps)
                same = [one for one in maps if one.over is over and rng.random() < 0.5]
                parts = [part for part in parts if part is not over]
                node = each.map(
                    unmapped(number), unmapped(bad), over, same[0] if same else "-",
                    unmapped(parts), **options,
                ) if same else each.map(
                    unmapped(number), unmapped(bad), over, unmapped("-"), unmapped(parts),
                    **options,
                )  # fmt: skip
                vars(node)["over"] = over
                maps.append(node)
            elif kind == "several":
                node = several(number, bad, parts, **options)
                lists.append(node)
            else:
                node = plain(number, bad, parts, **options)
            nodes.append(node)
    return flow


def units(run: FlowRun) -> dict[TaskRunId, Any]:
    """Return the records of what has a body."""
    records = run._driver.machine.records
    return {id: record for id, record in records.items() if record.plan.maps is None}


def cone_of(run: FlowRun, seeds: set[TaskRunId]) -> set[TaskRunId]:
    """Return what stands, directly or not, behind some, in a run in which all have ended."""
    found = set(seeds)
    while True:
        # Who waits for a mapped task waits for all its children.
        wide = found | {(n, -1) for n, i in found if i >= 0}
        more = {
            id for id, record in units(run).items()
            if id not in found and not wide.isdisjoint(record.plan.upstream)
        }  # fmt: skip
        if not more:
            return found
        found |= more


@pytest.fixture
def validated(monkeypatch):
    """Look at all rules of the machine after each event."""
    handle = Machine.handle

    def checked(self, event):
        commands = handle(self, event)
        broken = self.validate()
        assert not broken, broken
        return commands

    monkeypatch.setattr(Machine, "handle", checked)


def slugs_of(run, ids):
    return {run._driver.machine.records[id].plan.slug for id in ids}


@pytest.mark.parametrize("seed", range(150))
def test_a_resumed_run_comes_to_what_a_run_without_failures_comes_to(finish, validated, seed):
    rng = random.Random(seed)
    good = finish(random_flow(seed, frozenset()), keep="all")
    assert good.state.is_successful(), good.failure_text()
    names = sorted(slugs_of(good, units(good)))
    bad = frozenset(rng.sample(names, min(len(names), rng.randint(0, 2))))
    first = finish(random_flow(seed, bad), keep=rng.choice(("reference", "all", "none")))
    if rng.random() < 0.2:
        first.release()
    # A child can be named that was known.
    known = sorted(slugs_of(first, units(first)))
    rerun = rng.sample(known, rng.randint(0, 1))
    named = {id for id, record in units(good).items() if record.plan.slug in rerun}
    unsuccessful = {
        id for id in units(good)
        if (before := first._driver.machine.records.get(id)) is None
        or not before.header.is_successful
    }  # fmt: skip
    held = {id for id in units(good) if first._driver.channel.holds(id)}
    RAN.clear()

    run = finish(random_flow(seed, frozenset()), resume=first, rerun=rerun, return_tasks="all")

    assert run.state.is_successful(), run.failure_text()
    assert len(RAN) == len(set(RAN))
    cone = slugs_of(good, cone_of(good, unsuccessful | named))
    again = set(RAN) - cone
    assert set(RAN) >= cone
    # What ran besides was gone, and is read by what ran.
    assert not again & slugs_of(good, held)
    small = {record.plan.slug for record in units(good).values() if record.header.stands_alone}
    assert not again & small
    readers = {
        good._driver.machine.records[id].plan.slug
        for record in units(good).values() if record.plan.slug in RAN
        for id in record.plan.upstream
    }  # fmt: skip
    assert all(slug in readers or slug.partition("[")[0] in readers for slug in again)
    check_words(run, len(again), len(names) - len(RAN))
    # What was not to be had is not made for that, and what is there is what it would have been.
    for slug in {*RAN, *(slugs_of(good, held))}:
        assert run.result(slug) == good.result(slug), slug


def check_words(run: FlowRun, again: int, taken: int) -> None:
    text = run.notes[0].text
    assert text.startswith(f"reuses {taken} task run"), text
    said = re.search(r"computes (\d+) again", text)
    assert (int(said[1]) if said else 0) == again, text

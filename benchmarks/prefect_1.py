"""The three shapes of ``overhead`` in Prefect 1.4.1; run by an interpreter that has it.

Usage: ``python prefect_1.py ROUNDS FAN_OUT CHAIN GRID``; prints the seconds as JSON.
"""

import json
import logging
import sys
import time

from distributed import Client, LocalCluster
from prefect import Flow, task
from prefect.executors import DaskExecutor


@task
def first():
    return None


@task
def one(a):
    return None


@task
def two(a, b):
    return None


@task
def number(i):
    return None


def fan_out(n):
    with Flow("fan-out") as flow:
        for i in range(n):
            number(i)
    return flow


def chain(n):
    with Flow("chain") as flow:
        last = first()
        for _ in range(n - 1):
            last = one(last)
    return flow


def grid(n):
    with Flow("grid") as flow:
        above = [first() for _ in range(n)]
        for _ in range(n - 1):
            above = [two(above[i], above[(i + 1) % n]) for i in range(n)]
    return flow


def measure(make, size, rounds, executor):
    times = []
    for _ in range(rounds):
        begin = time.perf_counter()
        state = make(size).run(executor=executor)
        times.append(time.perf_counter() - begin)
        assert state.is_successful(), state
    return times


def main():
    logging.getLogger("prefect").setLevel(logging.ERROR)
    rounds, *sizes = map(int, sys.argv[1:])
    with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs=50
        ) as cluster,
        Client(cluster),
    ):
        executor = DaskExecutor(address=cluster.scheduler_address)
        fan_out(10).run(executor=executor)
        shapes = zip((fan_out, chain, grid), sizes, strict=True)
        print(json.dumps([measure(make, size, rounds, executor) for make, size in shapes]))


if __name__ == "__main__":
    main()

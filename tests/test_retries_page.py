"""The page on retries is run from its first block to its last, and its table is true."""

from __future__ import annotations

from pathlib import Path

import pytest
from pages import check_page

from dask_taskrunner import Flow, TaskTimedOut, signals, task
from dask_taskrunner.testing import InProcessRunner, kill_worker, takes

PAGE = (Path(__file__).parents[1] / "docs" / "retries.md").read_text(encoding="utf-8")


def test_the_cells_show_what_the_page_shows():
    namespace = {"__name__": "__main__"}
    check_page(PAGE, namespace)


@task
def raises(error=None):
    if error is not None:
        raise error
    return 1


def was_retried(body, *faults, slug="raises", **options):
    with Flow("retries") as flow:
        body()
    defaults = {"max_retries": 1, "max_crash_retries": 0, **options}
    run = InProcessRunner(*faults, task_defaults=defaults).run(flow)
    return run[slug].attempts and run[slug].attempts[0].outcome == "retrying"


def of_error(error, **options):
    return was_retried(lambda: raises(error), **options)


def of_timeout(**options):
    return was_retried(raises, takes("raises", 2), timeout=1, **options)


def of_trigger():
    return was_retried(
        lambda: raises(raises(OSError("no")), task_args={"name": "after"}), slug="after"
    )


TRUE = {
    "an exception": lambda: (of_error(OSError("no")), of_error(OSError("no"), retry_on=KeyError)),
    "the signal `FAIL`": lambda: (
        of_error(signals.FAIL("no")) and of_error(signals.FAIL("no"), retry_on=signals.FAIL),
        of_error(signals.FAIL("no"), retry_on=KeyError),
    ),
    "`TimedOut`": lambda: (
        of_timeout() and of_timeout(retry_on=TaskTimedOut),
        of_timeout(retry_on=TimeoutError),
    ),
    "`TriggerFailed`, `Skipped`, `Cancelled`": lambda: (
        True,
        of_trigger() or of_error(signals.SKIP("no")) or of_error(signals.CANCELLED("no")),
    ),
    "`Crashed`": lambda: (True, was_retried(raises, kill_worker("raises"))),
}


def test_no_case_is_left_out():
    _, _, table = PAGE.partition("| how it ended | is it retried? |\n|---|---|\n")
    told = [line.split(" | ")[0].strip("| ") for line in table.partition("\n\n")[0].splitlines()]
    # A task that asks for it by itself is among the cells.
    assert set(told) == {*TRUE, "the signal `RETRY`"}


@pytest.mark.parametrize("ended", TRUE)
def test_what_is_retried_and_what_is_not_is_true(ended):
    taken, not_taken = TRUE[ended]()
    assert taken
    assert not not_taken

"""What is said of a failed flow run."""

from __future__ import annotations

import traceback

import pytest

from dask_taskrunner.view.failure_text import (
    Failure,
    FailureReport,
    NotRun,
    failure_text,
    frame_lines,
)

CLEAN = Failure(
    slug="clean[17]",
    message="ValueError: negative price",
    attempt=(4, 4),
    worker="tcp://10.0.0.7:4711",
    inputs={"chunk": "DataFrame(1204, 9)", "regions": "DataFrame(40000, 3)", "mode": "'fast'"},
    traceback="""\
Traceback (most recent call last):
  File "etl.py", line 12, in clean
    raise ValueError("negative price")
ValueError: negative price
""",
)
EXTRACT = Failure(
    slug="extract-2",
    message="Crashed: its worker died 3 times, last tcp://10.0.0.9:4402 (memory limit 4 GiB?)",
)
REASON = "trigger all_successful: 1 of 200 upstream runs failed"


def test_the_text_is_the_one_that_the_documentation_shows():
    report = FailureReport(
        flow_name="etl",
        run_name="etl-nightly",
        total=214,
        failed=[CLEAN, EXTRACT],
        not_run=[NotRun("load", REASON), NotRun("publish", REASON)],
    )
    assert (
        f"FlowRunFailed: {failure_text(report)}"
        == """\
FlowRunFailed: etl 'etl-nightly' failed: 2 of 214 task runs failed, 2 did not run because of them
  clean[17]  ValueError: negative price            attempt 4 of 4, tcp://10.0.0.7:4711
    chunk=DataFrame(1204, 9), regions=DataFrame(40000, 3), mode='fast'
    File "etl.py", line 12, in clean
      raise ValueError("negative price")
  extract-2  Crashed: its worker died 3 times, last tcp://10.0.0.9:4402 (memory limit 4 GiB?)
  not run: load, publish (trigger all_successful: 1 of 200 upstream runs failed)"""
    )


def test_one_failure_alone_is_told_in_the_singular():
    alone = FailureReport("f", "r", 1, [Failure("a", "ValueError: no")])
    assert failure_text(alone) == "f 'r' failed: 1 of 1 task run failed\n  a  ValueError: no"
    followed = FailureReport("f", "r", 2, [Failure("a", "E: x")], [NotRun("b", "why")])
    assert failure_text(followed).splitlines() == [
        "f 'r' failed: 1 of 2 task runs failed, 1 did not run because of it",
        "  a  E: x",
        "  not run: b (why)",
    ]


REFUSED = NotRun("d", "trigger all_failed: 1 of 1 upstream runs were successful", True)


@pytest.mark.parametrize(
    ("failed", "not_run", "said"),
    [
        (0, [REFUSED], "1 of 9 task runs did not run"),
        # Such as those behind one that another client has cancelled.
        (0, [NotRun("b", "why"), REFUSED], "2 of 9 task runs did not run"),
        (1, [REFUSED], "1 of 9 task runs failed, 1 did not run for another reason"),
        (
            2,
            [NotRun("b", "why"), NotRun("c", "why"), REFUSED],
            (
                "2 of 9 task runs failed, 2 did not run because of them, "
                "1 did not run for another reason"
            ),
        ),
    ],
)
def test_nothing_is_blamed_for_what_a_trigger_refused_by_itself(failed, not_run, said):
    failures = [Failure(f"a[{n}]", "E: x") for n in range(failed)]
    text = failure_text(FailureReport("f", "r", 9, failures, not_run))
    assert text.splitlines()[0] == f"f 'r' failed: {said}"
    assert "  not run: d (trigger all_failed: 1 of 1 upstream runs were successful)" in text


def test_runs_that_did_not_run_share_a_line_per_reason_in_order():
    runs = [NotRun("a", "one"), NotRun("b", "two\nmore"), NotRun("c", "one")]
    text = failure_text(FailureReport("f", "r", 4, [Failure("x", "E: x")], runs))
    assert text.splitlines()[-2:] == ["  not run: a, c (one)", "  not run: b (two)"]


def test_of_many_failures_the_first_are_told_and_the_rest_counted():
    failed = [Failure(f"a[{n}]", "E: x") for n in range(50)]
    not_run = [NotRun(f"b[{n}]", "why") for n in range(25)]
    lines = failure_text(FailureReport("f", "r", 75, failed, not_run)).splitlines()
    assert len(lines) == 1 + 20 + 2
    assert lines[20] == "  a[19]  E: x"
    assert lines[21].startswith("  failed as well: a[20], a[21], ")
    assert lines[21].endswith(", a[39] and 10 more")
    assert lines[22].endswith(", b[19] and 5 more (why)")


def test_a_long_message_pushes_its_attempt_aside_and_keeps_to_one_line():
    failure = Failure("a", "ValueError: " + "x" * 40 + "\nsecond line", attempt=(1, 3))
    line = failure_text(FailureReport("f", "r", 1, [failure])).splitlines()[1]
    assert line == "  a  ValueError: " + "x" * 40 + "  attempt 1 of 3"


def test_the_worker_is_named_where_only_it_is_known():
    failure = Failure("a", "E: x", worker="tcp://w")
    assert failure_text(FailureReport("f", "r", 1, [failure])).endswith("  tcp://w")


def raise_deep(depth: int) -> None:
    if depth:
        raise_deep(depth - 1)
    raise ValueError("deep")


def text_of(depth: int) -> str:
    with pytest.raises(ValueError, match="deep") as caught:
        raise_deep(depth)
    # Its first frame is this function's own.
    caught.value.__traceback__ = caught.value.__traceback__.tb_next
    return "".join(traceback.format_exception(caught.value))


def test_a_frame_is_told_without_the_marks_under_its_code():
    assert [line.strip() for line in frame_lines(text_of(0))[1:]] == ['raise ValueError("deep")']


@pytest.mark.parametrize(("depth", "gap"), [(1, False), (2, True), (50, True)])
def test_of_many_frames_the_first_and_the_last_are_told(depth, gap):
    lines = [line.strip() for line in frame_lines(text_of(depth))]
    assert lines[1] == "raise_deep(depth - 1)"
    assert lines[-1] == 'raise ValueError("deep")'
    assert lines[2:-2] == (["..."] if gap else [])


def test_of_chained_exceptions_the_last_one_is_told():
    text = f"{text_of(3)}\nDuring handling of the above exception, another exception occurred:\n\n"
    assert frame_lines(text + CLEAN.traceback) == [
        '  File "etl.py", line 12, in clean',
        '    raise ValueError("negative price")',
    ]


def test_what_the_text_of_an_exception_quotes_is_no_frame_of_its_own():
    quoted = 'FlowRunFailed: inner failed\n  fails\n    File "inner.py", line 1, in fails\n'
    assert frame_lines(CLEAN.traceback + quoted) == frame_lines(CLEAN.traceback)


@pytest.mark.parametrize("text", ["", "ValueError: no traceback", "  [... cut ...]\n    x = 1"])
def test_a_text_without_frames_gives_none(text):
    assert frame_lines(text) == []

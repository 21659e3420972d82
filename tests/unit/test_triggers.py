from __future__ import annotations

import itertools
import pickle
from types import SimpleNamespace

import cloudpickle
import pytest

from dask_taskrunner import triggers
from dask_taskrunner.exceptions import OptionError
from dask_taskrunner.signals import FAIL, PAUSE, TRIGGERFAIL
from dask_taskrunner.states import (
    Cancelled,
    Crashed,
    Failed,
    Mapped,
    Running,
    Skipped,
    Success,
    TimedOut,
    TriggerFailed,
)

KINDS = [Success, Skipped, Failed, TriggerFailed, TimedOut, Crashed, Cancelled]
SUCCESSES = {Success, Skipped}
FAILURES = {Failed, TriggerFailed, TimedOut, Crashed}


def successes(kinds):
    return sum(kind in SUCCESSES for kind in kinds)


def failures(kinds):
    return sum(kind in FAILURES for kind in kinds)


#: What each trigger says of at least one upstream run, in words that share nothing with its code.
RULES = {
    triggers.all_successful: lambda kinds: successes(kinds) == len(kinds),
    triggers.all_failed: lambda kinds: failures(kinds) == len(kinds),
    triggers.any_successful: lambda kinds: successes(kinds) > 0,
    triggers.any_failed: lambda kinds: failures(kinds) > 0,
    triggers.all_finished: lambda kinds: True,
    triggers.not_all_skipped: lambda kinds: not failures(kinds) and set(kinds) != {Skipped},
    triggers.some_successful(at_least=2): lambda kinds: successes(kinds) >= 2,
    triggers.some_successful(at_least=0.5): lambda kinds: 2 * successes(kinds) >= len(kinds),
    triggers.some_successful(at_most=1): lambda kinds: successes(kinds) <= 1,
    triggers.some_successful(1, 2): lambda kinds: 1 <= successes(kinds) <= 2,
    triggers.some_failed(at_least=1): lambda kinds: failures(kinds) >= 1,
    triggers.some_failed(at_most=0.5): lambda kinds: 2 * failures(kinds) <= len(kinds),
    triggers.some_failed(at_least=0.5, at_most=2): lambda kinds: (
        2 * failures(kinds) >= len(kinds) and failures(kinds) <= 2
    ),
}
NAMES = [trigger.__name__ for trigger in RULES]
COMBINATIONS = [
    kinds for n in (1, 2, 3) for kinds in itertools.combinations_with_replacement(KINDS, n)
]


def verdict(trigger, upstream_states):
    try:
        return trigger(upstream_states)
    except TRIGGERFAIL:
        return False


@pytest.mark.parametrize(("trigger", "rule"), RULES.items(), ids=NAMES)
def test_every_trigger_judges_every_combination_of_states(trigger, rule):
    for kinds in COMBINATIONS:
        states = {f"task-{n}": kind() for n, kind in enumerate(kinds)}
        assert verdict(trigger, states) is rule(kinds), kinds


@pytest.mark.parametrize(("trigger", "rule"), RULES.items(), ids=NAMES)
def test_the_children_of_a_mapped_run_count_like_runs(trigger, rule):
    for kinds in COMBINATIONS:
        counts = {kind.__name__: kinds.count(kind) for kind in KINDS}
        assert verdict(trigger, {"many": Mapped(counts=counts)}) is rule(kinds), kinds
        assert verdict(trigger, {"many": Mapped(counts=counts), "one": Success()}) is rule(
            (*kinds, Success)
        )


@pytest.mark.parametrize("trigger", RULES, ids=NAMES)
@pytest.mark.parametrize("states", [{}, {"many": Mapped()}], ids=["none", "no children"])
def test_with_nothing_upstream_every_trigger_passes(trigger, states):
    assert trigger(states) is True


@pytest.mark.parametrize("states", [{}, {"a": Success()}, {"a": Failed()}])
def test_manual_only_pauses_whatever_is_upstream(states):
    with pytest.raises(PAUSE, match="manual_only"):
        triggers.manual_only(states)


def test_the_aliases_are_the_same_triggers():
    assert triggers.always_run is triggers.all_finished
    assert triggers.never_run is triggers.manual_only


def test_all_finished_says_what_was_not():
    with pytest.raises(TRIGGERFAIL, match=r"1 of 2 upstream runs were not finished \(1 Running\)"):
        triggers.all_finished({"a": Running(), "b": Success()})


# --- what a trigger says -------------------------------------------------------------------------

FIT = Failed(exception=ValueError("x"))
MIXED = {
    "load": Success(),
    "fit[3]": FIT,
    "fit[4]": Failed(),
    "score": TriggerFailed(),
    "tell": Skipped(),
}


@pytest.mark.parametrize(
    ("trigger", "states", "text"),
    [
        (
            triggers.all_successful,
            MIXED,
            (
                "all_successful: 3 of 5 upstream runs were not successful "
                "(2 Failed, 1 TriggerFailed); root cause: fit[3]: ValueError: x"
            ),
        ),
        (
            triggers.all_failed,
            MIXED,
            "all_failed: 2 of 5 upstream runs did not fail (1 Success, 1 Skipped)",
        ),
        (
            triggers.any_successful,
            {"fit[3]": FIT, "b": Cancelled()},
            (
                "any_successful: 2 of 2 upstream runs were not successful (1 Failed, 1 Cancelled); "
                "root cause: fit[3]: ValueError: x"
            ),
        ),
        (
            triggers.any_failed,
            {"a": Success(), "b": Success()},
            "any_failed: 2 of 2 upstream runs did not fail (2 Success)",
        ),
        (
            triggers.not_all_skipped,
            {"a": Skipped()},
            "not_all_skipped: 1 of 1 upstream runs were skipped (1 Skipped)",
        ),
        (
            triggers.not_all_skipped,
            {"a": Skipped(), "fit[3]": FIT},
            (
                "not_all_skipped: 1 of 2 upstream runs failed (1 Failed); "
                "root cause: fit[3]: ValueError: x"
            ),
        ),
        (
            triggers.some_successful(at_least=0.7),
            MIXED,
            (
                "some_successful(at_least=0.7): 2 of 5 upstream runs were successful "
                "(1 Success, 1 Skipped); root cause: fit[3]: ValueError: x"
            ),
        ),
        (
            triggers.some_successful(at_least=1),
            {"fit[3]": FIT},
            (
                "some_successful(at_least=1): 0 of 1 upstream runs were successful; "
                "root cause: fit[3]: ValueError: x"
            ),
        ),
        (
            triggers.some_successful(at_most=1),
            MIXED,
            (
                "some_successful(at_most=1): 2 of 5 upstream runs were successful "
                "(1 Success, 1 Skipped)"
            ),
        ),
        (
            triggers.some_failed(at_most=2),
            MIXED,
            (
                "some_failed(at_most=2): 3 of 5 upstream runs failed (2 Failed, 1 TriggerFailed); "
                "root cause: fit[3]: ValueError: x"
            ),
        ),
        (
            triggers.some_failed(at_least=4, at_most=5),
            MIXED,
            (
                "some_failed(at_least=4, at_most=5): 3 of 5 upstream runs failed "
                "(2 Failed, 1 TriggerFailed)"
            ),
        ),
        (
            triggers.all_successful,
            {"many": Mapped(message="2 Failed", counts={"Failed": 2, "Success": 8})},
            (
                "all_successful: 2 of 10 upstream runs were not successful (2 Failed); "
                "root cause: many: Mapped: 2 Failed"
            ),
        ),
    ],
)
def test_a_trigger_that_fails_says_how_many_were_in_which_state_and_why(trigger, states, text):
    with pytest.raises(TRIGGERFAIL) as caught:
        trigger(states)
    assert str(caught.value) == text
    assert caught.value.root_cause == triggers.root_cause(states) or "root cause" not in text


@pytest.mark.parametrize(
    ("states", "cause"),
    [
        ({}, None),
        ({"a": Success(), "b": Skipped()}, None),
        ({"a": Success(), "fit[3]": FIT}, ("fit[3]", "ValueError: x")),
        (
            {"report": TriggerFailed(message="...", root_cause=("fit", "ValueError: x"))},
            ("fit", "ValueError: x"),
        ),
        (
            {"report": TriggerFailed(message="any_failed: ...")},
            ("report", "TriggerFailed: any_failed: ..."),
        ),
        ({"a": Cancelled(message="by the user"), "fit": FIT}, ("fit", "ValueError: x")),
        ({"a": Cancelled(message="by the user")}, ("a", "Cancelled: by the user")),
        ({"a": Crashed(message="its worker died")}, ("a", "Crashed: its worker died")),
        ({"a": FAIL("bad rows").make_state()}, ("a", "Failed: bad rows")),
        ({"a": Failed()}, ("a", "Failed")),
    ],
)
def test_the_root_cause_is_the_first_run_that_failed_by_itself(states, cause):
    assert triggers.root_cause(states) == cause


def test_a_run_is_named_by_its_slug_whatever_stands_for_it():
    task = SimpleNamespace(slug="clean-2")
    assert triggers.name_of("clean-2") == "clean-2"
    assert triggers.name_of(task) == "clean-2"
    assert triggers.name_of(SimpleNamespace(upstream_task=task)) == "clean-2"
    assert triggers.name_of(7) == "7"


# --- triggers as values --------------------------------------------------------------------------


@pytest.mark.parametrize("trigger", [*RULES, triggers.manual_only], ids=[*NAMES, "manual_only"])
def test_every_trigger_pickles_and_is_equal_to_what_comes_out(trigger):
    assert pickle.loads(pickle.dumps(trigger)) == trigger
    assert cloudpickle.loads(cloudpickle.dumps(trigger)) == trigger


@pytest.mark.parametrize("trigger", [*RULES, triggers.manual_only], ids=[*NAMES, "manual_only"])
def test_a_trigger_that_lets_a_task_run_after_failures_says_so(trigger):
    expected = trigger.__name__.startswith(
        ("all_finished", "all_failed", "any_failed", "some_failed")
    )
    assert getattr(trigger, "runs_after_failures", False) is expected


def test_a_trigger_with_bounds_is_shown_with_them():
    assert repr(triggers.some_failed(at_most=0.3)) == "some_failed(at_most=0.3)"


def test_a_fraction_is_exact_though_floats_are_not():
    states = {n: Success() if n < 7 else Failed() for n in range(100)}
    assert 0.07 * 100 > 7
    assert triggers.some_successful(at_least=0.07)(states)
    assert triggers.some_failed(at_most=0.93)(states)


def test_the_whole_number_one_is_a_run_and_the_fraction_one_is_all():
    states = {"a": Success(), "b": Failed()}
    assert triggers.some_successful(at_least=1)(states)
    assert verdict(triggers.some_successful(at_least=1.0), states) is False


@pytest.mark.parametrize("make", [triggers.some_successful, triggers.some_failed])
@pytest.mark.parametrize("bounds", [(), (-1,), (1.5,), (None, float("nan")), ("half",)])
def test_bounds_that_make_no_sense_are_refused_at_once(make, bounds):
    with pytest.raises(OptionError, match=make.__name__):
        make(*bounds)

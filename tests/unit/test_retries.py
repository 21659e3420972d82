from __future__ import annotations

import pickle
from datetime import timedelta

import pytest

from dask_taskrunner.exceptions import OptionError, TaskTimedOut
from dask_taskrunner.retries import accepts, delay_before, exponential
from dask_taskrunner.signals import FAIL


def never():
    return 0.0


def delays(retry_delay, numbers=(1, 2, 3, 4)):
    return [delay_before(retry_delay, 0.0, number, None, never) for number in numbers]


@pytest.mark.parametrize(
    ("retry_delay", "expected"),
    [
        (10, [10, 10, 10, 10]),
        (0, [0, 0, 0, 0]),
        (timedelta(minutes=1), [60, 60, 60, 60]),
        ([1, timedelta(seconds=5), 9], [1, 5, 9, 9]),
        ((1,), [1, 1, 1, 1]),
        (lambda number, exception: timedelta(seconds=number), [1, 2, 3, 4]),
        (exponential(), [2, 4, 8, 16]),
        (exponential(base=3, maximum=10), [3, 9, 10, 10]),
        (exponential(0.5, timedelta(seconds=0.2)), [0.2, 0.2, 0.125, 0.0625]),
    ],
)
def test_a_delay_is_a_number_a_list_whose_last_repeats_or_a_callable(retry_delay, expected):
    assert delays(retry_delay) == expected


def test_a_callable_is_told_the_run_number_and_the_exception():
    told = []
    error = ValueError("x")
    delay_before(lambda *args: told.append(args) or 1, 0.0, 3, error, never)
    assert told == [(3, error)]


@pytest.mark.parametrize(("chance", "expected"), [(0.0, 10.0), (0.5, 11.0), (1.0, 12.0)])
def test_jitter_lengthens_a_delay_by_a_fraction_and_never_shortens_it(chance, expected):
    assert delay_before(10, 0.2, 1, None, lambda: chance) == pytest.approx(expected)


@pytest.mark.parametrize("retry_delay", [-1, lambda *args: None, lambda *args: float("nan"), "10"])
def test_a_delay_that_is_none_is_an_error(retry_delay):
    with pytest.raises((TypeError, ValueError), match="a delay is"):
        delays(retry_delay)


def test_an_exponential_delay_grows_up_to_its_maximum_for_ever():
    assert delays(exponential(2, maximum=60), [10, 10_000]) == [60, 60]


def test_an_exponential_delay_without_a_maximum_ends_in_an_error_not_in_eternity():
    with pytest.raises(ValueError, match="finite"):
        delays(exponential(2), [10_000])


@pytest.mark.parametrize("base", [0, -2])
def test_an_exponential_delay_needs_a_positive_base(base):
    with pytest.raises(OptionError, match="base"):
        exponential(base)


@pytest.mark.parametrize(
    ("policy", "text"),
    [
        (exponential(), "exponential(base=2)"),
        (exponential(1.5, 60), "exponential(base=1.5, maximum=60)"),
    ],
)
def test_an_exponential_delay_pickles_and_says_what_it_is(policy, text):
    assert pickle.loads(pickle.dumps(policy)) == policy
    assert repr(policy) == policy.__name__ == text


@pytest.mark.parametrize(
    ("retry_on", "exception", "accepted"),
    [
        (Exception, ValueError("x"), True),
        (Exception, FAIL("x"), True),
        (Exception, TaskTimedOut("x"), True),
        (Exception, SystemExit(1), False),
        (Exception, KeyboardInterrupt(), False),
        (BaseException, FAIL("x"), True),
        (BaseException, SystemExit(1), True),
        (OSError, ConnectionError("x"), True),
        (OSError, ValueError("x"), False),
        (OSError, FAIL("x"), False),
        (OSError, TaskTimedOut("x"), False),
        (FAIL, FAIL("x"), True),
        (FAIL, ValueError("x"), False),
        ((OSError, FAIL), FAIL("x"), True),
        ((OSError, Exception), FAIL("x"), True),
        ((OSError, TaskTimedOut), TaskTimedOut("x"), True),
        ((OSError, KeyError), ValueError("x"), False),
        (lambda error: "x" in str(error), ValueError("x"), True),
        (lambda error: "y" in str(error), ValueError("x"), False),
        (lambda error: [], ValueError("x"), False),
    ],
)
def test_retry_on_takes_types_or_a_predicate_and_a_fail_only_with_every_exception(
    retry_on, exception, accepted
):
    assert accepts(retry_on, exception) is accepted

"""``submit``: what can be called, with which options, and what a call is named."""

from __future__ import annotations

import asyncio
import functools
import operator
import statistics
import threading

import pytest
from fakes.gates import PATIENCE

from dask_taskrunner import Flow, Task, context, exceptions, signals, states, task

LARGE = "x" * 10_000


@task
def give(value=1):
    return value


def double(x):
    return 2 * x


async def later(x):
    await asyncio.sleep(0)
    return x + 1


def numbers(n):
    yield from range(n)


async def numbers_later(n):
    for i in range(n):
        await asyncio.sleep(0)
        yield i


class Load(Task):
    """A task of a class, with a setting of its own."""

    def __init__(self, factor, **options):
        self.factor = factor
        super().__init__(**options)

    def run(self, x):
        return self.factor * x


class Adder:
    """A callable object whose state may change between two calls."""

    def __init__(self, n):
        self.n = n

    def __call__(self, x):
        return x + self.n

    def add(self, x):
        return x + self.n


# --- what can be called --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("f", "args", "value"),
    [
        (give, (3,), 3),
        (double, (4,), 8),
        (len, ("abc",), 3),
        (sum, ([1, 2],), 3),
        (operator.add, (1, 2), 3),
        (dict, (), {}),
        (lambda x: x - 1, (1,), 0),
        (functools.partial(operator.sub, 10), (3,), 7),
        (functools.partial(functools.partial(double)), (3,), 6),
        (later, (1,), 2),
        (task(later), (1,), 2),
        (numbers, (3,), [0, 1, 2]),
        (numbers_later, (3,), [0, 1, 2]),
        (functools.partial(later, 1), (), 2),
        (Load(3), (2,), 6),
        (Adder(1), (2,), 3),
        (Adder(1).add, (2,), 3),
        ("text".upper, (), "TEXT"),
        (give.run, (5,), 5),
    ],
)
def test_whatever_can_be_called_is_called(runner, f, args, value):
    assert runner.submit(f, *args).result(PATIENCE) == value


def test_arguments_go_by_keyword_too_and_defaults_hold(runner):
    def f(a, /, b=2, *args, c, d=4, **more):
        return a, b, args, c, d, more

    assert runner.submit(f, 1, c=3).result(PATIENCE) == (1, 2, (), 3, 4, {})
    given = runner.submit(f, 1, 5, 6, 7, c=3, d=8, e=9, f=10).result(PATIENCE)
    assert given == (1, 5, (6, 7), 3, 8, {"e": 9, "f": 10})


def test_a_large_result_is_fetched(runner):
    assert runner.submit(give, LARGE).result(PATIENCE) == LARGE


def test_a_body_sees_who_it_is(runner):
    def look():
        return context.slug, context.map_index, context.task_run_number, context.flow_name

    assert runner.submit(look).result(PATIENCE) == ("look", -1, 1, None)
    run_name = runner.submit(lambda: context.run_name).result(PATIENCE)
    assert run_name == runner.session.run_name


# --- options -------------------------------------------------------------------------------------


def test_task_args_hold_for_one_call(runner):
    def third_time():
        if context.task_run_number < 3:
            raise ValueError("not yet")
        return context.slug

    options = {"max_retries": 2, "retry_delay": 0, "name": "third"}
    future = runner.submit(third_time, task_args=options)
    assert future.result(PATIENCE) == "third"
    assert [a.outcome for a in future.attempts] == ["retrying", "retrying", "success"]
    with pytest.raises(ValueError, match="not yet"):
        runner.submit(third_time).result(PATIENCE)


def test_the_runners_defaults_hold_for_what_a_task_does_not_set(make_runner):
    runner = make_runner(task_defaults={"max_retries": 1, "retry_delay": 0})

    def fails():
        raise ValueError(context.task_run_number)

    with pytest.raises(ValueError, match="2"):
        runner.submit(fails).result(PATIENCE)
    with pytest.raises(ValueError, match="1"):
        runner.submit(task(fails, max_retries=0)).result(PATIENCE)


def test_options_of_the_cluster_go_along(runner):
    future = runner.submit(task(double, priority=5, resources={"gpu": 1}), 1)
    spec = runner.channel._specs[future._id]
    assert spec.priority == 5
    assert spec.resources == {"gpu": 1}


@pytest.mark.parametrize("options", [{"max_retry": 1}, {"max_retries": -1}, [1]])
def test_a_wrong_option_is_refused(runner, options):
    with pytest.raises(exceptions.OptionError, match="give, task_args"):
        runner.submit(give, task_args=options)


# --- names ---------------------------------------------------------------------------------------


def test_slugs_count_the_uses_of_a_name(runner):
    futures = [runner.submit(give, n) for n in range(3)]
    assert [future.slug for future in futures] == ["give", "give-2", "give-3"]
    assert [future.name for future in futures] == ["give", "give-2", "give-3"]
    assert runner.submit(double, 1, task_args={"name": "give"}).slug == "give-4"
    mapped = runner.map(give, [1, 2])
    assert mapped.name == "give-5"
    assert [future.slug for future in mapped] == ["give-5[0]", "give-5[1]"]
    assert runner.submit(double, 1).slug == "double"


def test_a_name_for_people_is_told_once_it_is_known(runner):
    future = runner.submit(task(double, task_run_name="double of {x}"), 3)
    future.result(PATIENCE)
    assert future.name == "double of 3"
    assert future.slug == "double"


# --- what may have changed -----------------------------------------------------------------------


def test_a_closure_that_changed_between_two_calls_is_sent_anew(runner):
    seen = [1]

    def look():
        return list(seen)

    first = runner.submit(look)
    seen.append(2)
    second = runner.submit(look)
    assert first.result(PATIENCE) == [1]
    assert second.result(PATIENCE) == [1, 2]


def test_a_global_that_changed_between_two_calls_is_sent_anew(runner):
    # As in a notebook's __main__: what it defines goes by value.
    scope = {"__name__": "__main__", "factor": 2}
    exec("def scaled(x):\n    return factor * x\n", scope)  # the cell of a notebook
    first = runner.submit(scope["scaled"], 1)
    scope["factor"] = 3
    assert runner.submit(scope["scaled"], 1).result(PATIENCE) == 3
    assert first.result(PATIENCE) == 2


@pytest.mark.parametrize("kind", ["object", "method", "task", "partial"])
def test_an_objects_state_that_changed_between_two_calls_is_sent_anew(runner, kind):
    adder, settings, load = Adder(1), {"step": 1}, Load(1)
    f, change = {
        "object": (adder, lambda: setattr(adder, "n", 2)),
        "method": (adder.add, lambda: setattr(adder, "n", 2)),
        "task": (load, lambda: setattr(load, "factor", 2)),
        "partial": (functools.partial(_get, settings), lambda: settings.update(step=2)),
    }[kind]
    before = runner.submit(f, 1).result(PATIENCE)
    change()
    assert runner.submit(f, 1).result(PATIENCE) == before + 1


def _get(settings, x):
    return settings["step"] + x


def test_an_importable_function_is_pickled_once(runner, monkeypatch):
    from dask_taskrunner import stock

    pickled = []

    def pickle_task(task):
        pickled.append(task.name)
        return original(task)

    original = stock.pickle_task
    monkeypatch.setattr(stock, "pickle_task", pickle_task)
    for _ in range(3):
        runner.submit(operator.add, 1, 2).result(PATIENCE)
        runner.submit(statistics.mean, [1, 2]).result(PATIENCE)
    assert pickled == ["add", "mean"]
    # With other options it is another definition.
    runner.submit(operator.add, 1, 2, task_args={"max_retries": 1}).result(PATIENCE)
    assert pickled == ["add", "mean", "add"]


def test_objects_that_are_pickled_each_time_crowd_out_no_function(runner):
    for n in range(300):
        runner.session._stock.code_of(Load(n))
    assert not runner.session._stock._importable


def test_a_large_array_that_changed_between_two_calls_is_sent_anew(runner):
    import numpy as np

    array = np.zeros(100_000)
    first = runner.submit(np.sum, array)
    array[:] = 1
    second = runner.submit(np.sum, array)
    assert first.result(PATIENCE) == 0
    assert second.result(PATIENCE) == 100_000


def test_a_large_argument_may_be_given_up_while_it_is_given_to_another_call(runner):
    import numpy as np

    array = np.ones(100_000)
    total = runner.submit(np.sum, array)
    constant = runner.channel._specs[total._id].constants[0]
    assert total.result(PATIENCE) == 100_000
    runner.settled()
    # As when the last reader ends between this call's look and its way into the plan.
    shared = runner.session._stock.share(constant.data or b"")
    runner.channel.settle([total._id])
    assert shared.data is not None


# --- bad input -----------------------------------------------------------------------------------


def test_a_bound_task_is_refused_as_what_is_called(runner):
    with Flow("etl"):
        rows = give(1)
    with pytest.raises(exceptions.OptionError) as caught:
        runner.submit(rows, 1)
    assert "'give' is a task of flow 'etl', bound to its arguments there" in str(caught.value)
    assert "runner.submit(give, ...)" in str(caught.value)


@pytest.mark.parametrize("f", [None, 5, "len", [len]])
def test_what_cannot_be_called_is_refused(runner, f):
    with pytest.raises(exceptions.OptionError, match="submit and map take a task or a function"):
        runner.submit(f)


def test_a_tasks_class_is_refused(runner):
    with pytest.raises(exceptions.OptionError, match=r"runner\.submit\(Load\(\), \.\.\.\)"):
        runner.submit(Load, 3)


def test_a_flow_is_refused(runner):
    with Flow("etl") as flow:
        give(1)
    with pytest.raises(exceptions.OptionError, match=r"runner\.run\(flow\)"):
        runner.submit(flow)


def test_a_coroutine_that_nobody_awaited_is_refused_as_what_is_called(runner):
    with pytest.raises(exceptions.OptionError, match=r"not runner\.submit\(later\(\.\.\.\)\)"):
        runner.submit(later(1))


@pytest.mark.parametrize("wrap", [lambda c: c, lambda c: [c], lambda c: {"a": (c,)}])
def test_a_coroutine_that_nobody_awaited_is_refused_as_an_argument(runner, wrap):
    coroutine = later(1)
    with pytest.raises(exceptions.UnpicklableArgument) as caught:
        runner.submit(give, wrap(coroutine))
    assert "argument 'value' of 'give'" in str(caught.value)
    assert "write `await` before it" in str(caught.value)
    coroutine.close()


def test_arguments_that_do_not_fit_are_refused_in_the_callers_line(runner):
    with pytest.raises(exceptions.ArgumentError, match="double"):
        runner.submit(double)
    with pytest.raises(exceptions.ArgumentError, match="double"):
        runner.submit(double, 1, y=2)
    assert not runner.channel.submitted


def test_a_task_that_was_not_called_is_refused_as_an_argument(runner):
    with pytest.raises(exceptions.ArgumentError) as caught:
        runner.submit(double, give)
    assert "'x' of double is the task 'give' itself" in str(caught.value)
    assert "runner.submit(give, ...)" in str(caught.value)


def test_what_cannot_be_pickled_is_named(runner):
    with pytest.raises(exceptions.UnpicklableArgument, match="argument 'value' of 'give'"):
        runner.submit(give, threading.Lock())
    lock = threading.Lock()
    with pytest.raises(exceptions.UnpicklableArgument, match="cannot be pickled: cannot pickle"):
        runner.submit(lambda: lock)


def test_what_is_too_large_is_refused(make_runner):
    runner = make_runner(max_constant_bytes=1_000_000)
    with pytest.raises(exceptions.LargeArgument, match="argument 'value' of 'give'"):
        runner.submit(give, b"x" * 2_000_000)
    assert not runner.channel.submitted


# --- many threads --------------------------------------------------------------------------------


def test_many_threads_submit_at_once(runner):
    found, errors = {}, []

    def work(n):
        try:
            futures = [runner.submit(double, 100 * n + i) for i in range(20)]
            total = runner.submit(sum, futures)
            assert [future.result(PATIENCE) for future in futures] == [
                2 * (100 * n + i) for i in range(20)
            ]
            found[n] = total.result(PATIENCE)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert not errors
    assert found == {n: 2 * sum(range(100 * n, 100 * n + 20)) for n in range(8)}
    assert runner.driver.machine.validate() == []


def test_a_signal_chooses_the_state(runner):
    def skips():
        raise signals.SKIP("nothing new")

    future = runner.submit(skips)
    assert future.result(PATIENCE) is None
    assert isinstance(future.state, states.Skipped)

import asyncio
import copy
import functools
import inspect
import operator
import pickle
from collections.abc import Iterator
from datetime import timedelta

import cloudpickle
import pytest

from dask_taskrunner import (
    ArgumentError,
    BoundTask,
    Flow,
    FunctionTask,
    OptionError,
    OutsideFlow,
    Task,
    TaskRunner,
    task,
    triggers,
)
from dask_taskrunner.graph.options import DEFAULTS, check_options
from dask_taskrunner.signals import FAIL


@task
def clean(rows, threshold=5):
    """Drop what is below the threshold."""
    return [row for row in rows if row >= threshold]


@task(max_retries=3, retry_delay=[1, 2])
def extract(url):
    return [1, 7]


class Load(Task):
    max_retries = 2
    trigger = triggers.all_finished

    def __init__(self, path, **options):
        super().__init__(**options)
        self.path = path

    def run(self, rows, mode="w"):
        return self.path, mode, rows


@pytest.fixture
def flow():
    with Flow("etl") as flow:
        yield flow


# --- definitions -----------------------------------------------------------------------------


def test_a_decorated_function_is_a_task_with_the_defaults():
    assert isinstance(clean, FunctionTask)
    assert clean.name == clean.slug == "clean"
    assert {name: getattr(clean, name) for name in DEFAULTS} == DEFAULTS
    assert clean.explicit_options == {}


def test_a_decorator_takes_options():
    assert extract.max_retries == 3
    assert extract.explicit_options == {"max_retries": 3, "retry_delay": (1, 2)}


def test_a_task_shows_what_its_function_shows():
    assert clean.__doc__ == "Drop what is below the threshold."
    assert clean.__module__ == __name__
    assert inspect.signature(clean) == inspect.signature(clean.function)


def test_run_is_the_plain_function():
    assert clean.run([1, 7], threshold=2) == [7]
    assert list(task(lambda n: (i for i in range(n))).run(2)) == [0, 1]


def test_run_of_an_async_function_gives_its_result():
    @task
    async def answer(value):
        await asyncio.sleep(0)
        return value

    assert answer.run(42) == 42
    assert answer.call({"value": 42}) == 42


def test_run_passes_a_parameter_called_self():
    assert task(lambda self: self).run(self=1) == 1


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (len, "len"),
        (int, "int"),
        (lambda: 1, "<lambda>"),
        (functools.partial(functools.partial(max, 1), 2), "max"),
        (operator.itemgetter(0), "itemgetter"),
    ],
)
def test_any_callable_is_named_after_itself(function, name):
    assert task(function).name == name


def test_a_name_can_be_given():
    assert task(clean.function, "scrub").name == "scrub"
    assert task(name="scrub")(clean.function).name == "scrub"
    assert clean.with_options(name="scrub").name == "scrub"


@pytest.mark.parametrize("name", ["", " ", "load[3]", "etl/load", "two\nlines", 5])
def test_a_name_that_a_slug_cannot_have_is_refused(name):
    with pytest.raises(OptionError, match="name must be a text without any of"):
        task(name=name)(clean.function)


def test_a_wrong_option_is_refused_by_the_decorator_itself():
    with pytest.raises(OptionError, match="did you mean 'max_retries'"):
        task(max_retry=3)


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ("clean", "task takes a function, not 'clean'; its name goes by keyword"),
        (clean, r"<Task 'clean'> is a task already; clean.with_options\(...\) makes another"),
    ],
)
def test_what_cannot_be_decorated_is_refused(wrong, text):
    with pytest.raises(OptionError, match=text):
        task(wrong)


def test_nout_is_read_from_the_annotation_unless_it_is_given():
    def split(rows) -> tuple[int, str]: ...

    assert task(split).nout == 2
    assert task(split, nout=3).nout == 3
    assert task(split).with_defaults({"nout": 4}, {}).nout == 2


def test_a_subclass_is_a_task_named_after_it():
    load = Load("out.csv")
    assert load.name == "Load"
    assert load.run([1]) == ("out.csv", "w", [1])
    assert load.call({"rows": [1], "mode": "a"}) == ("out.csv", "a", [1])


def test_a_subclass_may_set_options_for_its_tasks():
    load = Load("out.csv", name="load", max_retries=4)
    assert load.explicit_options == {"max_retries": 4, "trigger": triggers.all_finished}
    assert Load("out.csv").max_retries == 2
    assert load.trigger is triggers.all_finished


def test_a_subclass_may_set_an_option_to_a_static_method():
    class Watch(Task):
        @staticmethod
        def trigger(upstream_states):
            return True

        def run(self): ...

    assert Watch().trigger({}) is True


def test_an_option_of_a_subclass_is_checked():
    class Slow(Task):
        max_retries = "many"

        def run(self): ...

    with pytest.raises(OptionError, match="Slow: max_retries must be"):
        Slow()


def test_a_subclass_needs_a_body():
    class Nothing(Task): ...

    with pytest.raises(OptionError, match="Nothing does not define run"):
        Nothing()


def test_the_name_of_a_parameter_is_refused_where_the_class_is_written():
    with pytest.raises(OptionError, match="Wrong: no parameter of a task may be called"):

        class Wrong(Task):
            def run(self, task_args): ...


def test_a_subclass_that_forgets_its_base_is_told_so(flow):
    class Forgetful(Task):
        def __init__(self):
            self.path = "out.csv"

        def run(self): ...

    with pytest.raises(OptionError, match=r"Forgetful.__init__ does not call super\(\).__init__"):
        Forgetful()()


# --- options ---------------------------------------------------------------------------------


def test_with_options_makes_another_task():
    patient = extract.with_options(max_retries=5, retry_delay=timedelta(seconds=1))
    assert (patient.max_retries, extract.max_retries) == (5, 3)
    assert patient.retry_delay == timedelta(seconds=1)
    assert patient.function is extract.function
    assert type(patient) is FunctionTask


def test_with_options_keeps_what_a_subclass_has():
    assert Load("out.csv").with_options(max_retries=1).run([]) == ("out.csv", "w", [])


def test_with_options_checks():
    with pytest.raises(OptionError, match="extract: max_retries must be a whole number"):
        extract.with_options(max_retries="5")


def test_the_nearest_default_wins():
    flow_defaults, runner_defaults = {"max_retries": 5, "tags": ("flow",)}, {"tags": (), "nout": 2}
    assert clean.with_defaults(flow_defaults, runner_defaults).max_retries == 5
    assert clean.with_defaults(flow_defaults, runner_defaults).tags == ("flow",)
    assert clean.with_defaults(flow_defaults, runner_defaults).nout == 2
    assert extract.with_defaults(flow_defaults, runner_defaults).max_retries == 3
    assert clean.max_retries == 0


def test_defaults_that_change_nothing_make_no_copy():
    assert clean.with_defaults({}, {}) is clean
    assert extract.with_defaults({"max_retries": 5}, {"retry_delay": 1}) is extract


def test_defaults_can_be_applied_again():
    once = clean.with_defaults({"max_retries": 5}, {})
    assert once.with_defaults({"max_retries": 6}, {}).max_retries == 6
    assert once.with_options(nout=2).max_retries == 0


# --- bodies ----------------------------------------------------------------------------------


def test_call_runs_the_body_with_inputs_by_name():
    @task
    def everything(first, second=2, /, third=3, *rest, mode="fast", **more):
        return first, second, third, rest, mode, more

    inputs = {"first": 1, "second": 5, "third": 6, "rest": (7,), "more": {"x": 8}}
    assert everything.call(inputs) == (1, 5, 6, (7,), "fast", {"x": 8})
    assert everything.call({"first": 1, "third": 4}) == (1, 2, 4, (), "fast", {})


def test_call_makes_a_list_of_a_generator():
    @task
    def count(n) -> Iterator[int]:
        yield from range(n)

    assert count.call({"n": 3}) == [0, 1, 2]


def test_a_missing_input_is_the_functions_own_error():
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'rows'"):
        clean.call({})


def test_the_pipeline_runs_a_task_without_a_flow():
    state = TaskRunner(clean).run(inputs={"rows": [1, 7]})
    assert state.result == [7]


# --- pickles ---------------------------------------------------------------------------------


def test_a_task_survives_a_pickle():
    with Flow("etl"):
        clean(extract("x"), threshold=2)
    for original in (clean, extract, extract.with_options(retry_on=FAIL)):
        again = pickle.loads(cloudpickle.dumps(original))
        assert again.function(*[[1, 7]]) == original.function([1, 7])
        assert {**vars(again), "function": 0}.keys() <= vars(original).keys()
        assert again.explicit_options == original.explicit_options


def test_a_task_of_a_script_survives_a_pickle():
    namespace = {"__name__": "__main__", "task": task}
    source = (
        "def half(x): return x / 2\n@task\ndef f(*xs, **more): return [half(x) for x in xs], more"
    )
    exec(source, namespace)
    again = pickle.loads(cloudpickle.dumps(namespace["f"]))
    assert again.call({"xs": (2, 4), "more": {"y": 1}}) == ([1, 2], {"y": 1})


def test_a_task_class_of_a_script_survives_a_pickle():
    namespace = {"__name__": "__main__", "Task": Task}
    source = "class Half(Task[int]):\n nout = 2\n def run(self, x, /): return x / 2"
    exec(source, namespace)
    again = pickle.loads(cloudpickle.dumps(namespace["Half"]()))
    assert (again.call({"x": 4}), again.nout, again.name) == (2, 2, "Half")


def test_a_worker_needs_no_signature(monkeypatch):
    data = cloudpickle.dumps(clean)

    def no_signature(*args):
        raise AssertionError("inspect is too slow for a worker")

    monkeypatch.setattr("dask_taskrunner.graph.definitions.read_signature", no_signature)
    assert pickle.loads(data).call({"rows": [1, 7]}) == [7]


def test_an_opened_task_can_be_pickled_and_asked_again():
    again = pickle.loads(cloudpickle.dumps(pickle.loads(cloudpickle.dumps(clean))))
    assert again.signature == clean.signature


def test_a_task_with_a_lock_in_its_function_names_the_pickle_error():
    import threading

    lock = threading.Lock()
    with pytest.raises(TypeError, match="cannot pickle"):
        cloudpickle.dumps(task(lambda: lock))


def test_a_deep_copy_is_the_task_itself_and_a_copy_another():
    assert copy.deepcopy(clean) is clean
    other = copy.copy(clean)
    other.name = "other"
    assert clean.name == "clean"


# --- binding ---------------------------------------------------------------------------------


def test_calling_a_task_binds_a_copy(flow):
    rows = extract("x")
    assert isinstance(rows, BoundTask)
    assert (rows.name, rows.slug, rows.flow) == ("extract", "extract", flow)
    assert rows.arguments == {"url": "x"}
    assert rows.definition is rows.task is extract


def test_outside_of_a_flow_a_call_is_an_error():
    with pytest.raises(OutsideFlow) as caught:
        clean([1])
    assert str(caught.value) == (
        "task 'clean' was called outside a flow: do it inside `with Flow(...):`; "
        "clean.run(...) is the plain function"
    )


def test_slugs_number_the_uses_of_a_name(flow):
    assert [clean([]).slug for _ in range(3)] == ["clean", "clean-2", "clean-3"]


def test_slugs_stay_unique_whatever_users_call_their_tasks(flow):
    names = ["clean-2", "clean", "clean", "clean", "clean-2", "clean-3"]
    slugs = [clean([], task_args={"name": name}).slug for name in names]
    assert slugs == ["clean-2", "clean", "clean-3", "clean-4", "clean-2-2", "clean-3-2"]


def test_uses_with_the_same_options_share_one_definition(flow):
    first, second = clean([]), clean([1], task_args={"name": "other"})
    assert first.definition is second.definition is clean
    third = clean([], task_args={"max_retries": 1, "tags": ["a"]})
    fourth = clean([], task_args={"tags": ["a"], "max_retries": 1})
    assert third.definition is fourth.definition is not clean
    assert third.task is clean
    assert (third.definition.max_retries, third.definition.tags) == (1, ("a",))


def test_options_without_a_hash_work_for_one_use(flow):
    bound = clean([], task_args={"resources": {"GPU": 1}})
    assert bound.definition.resources == {"GPU": 1}


def test_task_args_beat_the_decorator(flow):
    assert extract("x", task_args={"max_retries": 0}).definition.max_retries == 0


@pytest.mark.parametrize(
    ("task_args", "text"),
    [
        ({"max_retry": 1}, "clean, task_args: there is no option 'max_retry'; did you mean"),
        ({"max_retries": "1"}, "clean, task_args: max_retries must be"),
        ({"name": "a/b"}, "clean, task_args: name must be a text"),
        ([1], r"clean, task_args: takes a dict of options, not \[1\]"),
    ],
)
def test_task_args_are_checked_in_the_users_line(flow, task_args, text):
    with pytest.raises(OptionError, match=text):
        clean([], task_args=task_args)
    assert flow.tasks == ()


def test_arguments_are_checked_in_the_users_line(flow):
    with pytest.raises(ArgumentError, match=r"clean\(rows, threshold=...\): missing a required"):
        clean()
    assert flow.tasks == ()


def test_a_task_that_was_not_called_is_no_argument(flow):
    with pytest.raises(ArgumentError, match="'rows' of clean is the task 'extract' itself"):
        clean(extract)
    assert flow.tasks == ()


def test_constants_are_held_by_reference(flow):
    rows = [1, 2, 3]
    assert clean(rows).arguments["rows"] is rows


def test_a_bound_task_without_its_flow_survives_a_pickle(flow):
    rows = extract("x")
    again = pickle.loads(cloudpickle.dumps(clean(rows)))
    assert (again.slug, again.arguments) == ("clean", {})
    assert "flow" not in vars(again)


def test_copying_a_bound_task_keeps_its_identity(flow):
    rows = extract("x")
    assert copy.copy(rows) is copy.deepcopy([rows])[0] is rows


def test_reprs_name_the_slug(flow):
    assert repr(extract) == "<Task 'extract'>"
    assert repr(extract("x")) == "<BoundTask 'extract'>"


def test_options_of_runners_and_flows_are_checked_by_the_same_table():
    assert check_options({"retry_delay": [1, 2]}, "DaskTaskRunner, task_defaults")
    with pytest.raises(
        OptionError, match=r"Flow\('etl'\), task_defaults: there is no option 'name'"
    ):
        Flow("etl", task_defaults={"name": "x"})

import pytest

from dask_taskrunner import (
    ArgumentError,
    EmptyFlow,
    Flow,
    FlowError,
    Parameter,
    UnknownTask,
    task,
    triggers,
)


@task
def extract(url=None): ...


@task
def clean(rows): ...


@task(trigger=triggers.all_finished)
def notify(report=None): ...


@pytest.fixture
def flow():
    """A flow of url -> extract -> clean, clean-2 -> notify."""
    with Flow("etl") as flow:
        rows = extract(Parameter("url", default="x"))
        notify([clean(rows), clean(rows)])
    return flow


def slugs(nodes):
    return [node.slug for node in nodes]


def test_tasks_and_parameters_come_in_the_order_of_their_binding(flow):
    assert slugs(flow.tasks) == ["url", "extract", "clean", "clean-2", "notify"]


def test_a_flow_says_what_is_in_it(flow):
    assert repr(flow) == "<Flow 'etl': 4 tasks, 1 parameter>"
    assert repr(Flow("empty")) == "<Flow 'empty': 0 tasks>"


def test_neighbours_are_told(flow):
    assert slugs(flow.upstream_tasks("notify")) == ["clean", "clean-2"]
    assert slugs(flow.upstream_tasks(extract)) == ["url"]
    assert slugs(flow.downstream_tasks("extract")) == ["clean", "clean-2"]
    assert slugs(flow.downstream_tasks(flow.parameters()["url"])) == ["extract"]


def test_root_tasks_wait_for_no_task(flow):
    assert slugs(flow.root_tasks()) == ["extract"]


def test_terminal_tasks_are_waited_for_by_none(flow):
    assert slugs(flow.terminal_tasks()) == ["notify"]


def test_tasks_are_found_by_name(flow):
    assert slugs(flow.get_tasks("clean")) == ["clean", "clean-2"]
    assert flow.get_tasks("clean-2") == flow.get_tasks("url") == ()


def test_tasks_are_sorted_by_what_they_wait_for_and_then_by_binding():
    flow = Flow("etl")
    a, b, c, d = (flow.add_task(clean) for _ in range(4))
    flow.add_edge(d, a)
    flow.add_edge(c, a)
    assert flow.sorted_tasks() == (b, c, d, a)


# --- which task is meant -----------------------------------------------------------------------


def test_a_task_is_meant_by_itself_its_slug_or_the_decorated_task(flow):
    bound = flow.tasks[1]
    assert flow.resolve_task(bound) is bound
    assert flow.resolve_task("extract") is bound
    assert flow.resolve_task(extract) is bound


def test_a_use_with_other_options_is_a_use_of_the_task():
    with Flow("etl") as flow:
        bound = extract(task_args={"max_retries": 1, "name": "fetch"})
    assert flow.resolve_task(extract) is bound


@pytest.mark.parametrize(
    ("wanted", "text"),
    [
        ("claen", "flow 'etl' has no task 'claen'; did you mean 'clean'?"),
        ("url", "flow 'etl' has no task 'url'; there are 'clean', 'clean-2', 'extract', 'notify'"),
        (clean, "flow 'etl' uses clean twice: 'clean', 'clean-2'"),
        (
            extract.with_options(nout=2),
            (
                "flow 'etl' does not use this task 'extract'; call it inside the flow's block, "
                "or add it with add_task()"
            ),
        ),
        (5, "5 is neither a task nor a slug"),
        (None, "None is neither a task nor a slug"),
    ],
)
def test_an_unknown_task_is_an_error_that_helps(flow, wanted, text):
    with pytest.raises(UnknownTask) as caught:
        flow.resolve_task(wanted)
    assert str(caught.value) == text
    assert isinstance(caught.value, KeyError)


def test_many_uses_are_counted(flow):
    with flow:
        clean(1)
    with pytest.raises(UnknownTask, match="uses clean 3 times: 'clean', 'clean-2', 'clean-3'"):
        flow.resolve_task(clean)


def test_the_names_in_an_error_are_not_endless():
    with Flow("large") as flow:
        for _ in range(30):
            extract()
    with pytest.raises(UnknownTask, match=r"'extract-27' and 10 more$"):
        flow.resolve_task("xyz")


def test_a_parameter_is_no_task(flow):
    with pytest.raises(UnknownTask, match="'url' is a parameter, not a task"):
        flow.resolve_task(flow.parameters()["url"])


def test_a_task_of_another_flow_is_unknown(flow):
    with pytest.raises(
        UnknownTask, match="'extract' was bound in flow 'etl' and cannot be used in"
    ):
        flow.copy().resolve_task(flow.resolve_task(extract))
    with pytest.raises(UnknownTask):
        flow.copy().upstream_tasks(flow.parameters()["url"])


def test_membership_goes_by_the_same_names(flow):
    for inside in (flow.tasks[0], flow.tasks[1], "clean-2", clean):
        assert inside in flow
    for outside in (flow.copy().tasks[0], "url", "claen", task(len), 5, None):
        assert outside not in flow


# --- reference tasks ---------------------------------------------------------------------------


def test_terminal_tasks_decide_by_default():
    with Flow("etl") as flow:
        rows = extract()
        clean(rows)
        clean(rows)
    assert slugs(flow.reference_tasks()) == ["clean", "clean-2"]


def test_what_runs_after_failures_only_watches(flow):
    assert slugs(flow.reference_tasks()) == ["clean", "clean-2"]


@pytest.mark.parametrize(
    ("trigger", "watches"),
    [
        (triggers.all_successful, False),
        (triggers.any_successful, False),
        (triggers.not_all_skipped, False),
        (triggers.manual_only, False),
        (triggers.some_successful(at_least=1), False),
        (lambda upstream_states: True, False),
        (triggers.all_finished, True),
        (triggers.any_failed, True),
        (triggers.all_failed, True),
        (triggers.some_failed(at_most=0.5), True),
    ],
)
def test_the_trigger_tells_who_watches(trigger, watches):
    with Flow("etl") as flow:
        clean(extract(), task_args={"trigger": trigger})
    assert slugs(flow.reference_tasks()) == (["extract"] if watches else ["clean"])


def test_a_trigger_from_the_flows_defaults_counts():
    with Flow("etl", task_defaults={"trigger": triggers.all_finished}) as flow:
        rows = extract(task_args={"trigger": triggers.all_successful})
        clean(rows)
    assert slugs(flow.reference_tasks()) == ["extract"]


def test_who_watches_a_watcher_watches_too():
    with Flow("etl") as flow:
        rows = extract()
        other = clean(rows)
        notify(notify(rows, upstream_tasks=[other]))
    assert slugs(flow.reference_tasks()) == ["extract", "clean"]


def test_a_watcher_with_nothing_to_watch_decides_itself():
    with Flow("etl") as flow:
        notify(Parameter("url"))
    assert slugs(flow.reference_tasks()) == ["notify"]


def test_a_parameter_never_decides():
    with Flow("etl") as flow:
        Parameter("unused")
        extract()
    assert slugs(flow.reference_tasks()) == ["extract"]
    with pytest.raises(UnknownTask):
        flow.set_reference_tasks([flow.parameters()["unused"]])


@pytest.mark.parametrize("tasks", [["notify"], "notify", [notify], notify])
def test_reference_tasks_can_be_chosen(flow, tasks):
    flow.set_reference_tasks(tasks)
    assert slugs(flow.reference_tasks()) == ["notify"]
    flow.set_reference_tasks(None)
    assert slugs(flow.reference_tasks()) == ["clean", "clean-2"]


def test_no_task_at_all_cannot_decide(flow):
    with pytest.raises(FlowError, match="flow 'etl': at least one task must decide its state"):
        flow.set_reference_tasks([])


# --- validation --------------------------------------------------------------------------------


def test_a_flow_without_tasks_is_refused():
    with Flow("etl") as flow:
        Parameter("url")
    with pytest.raises(EmptyFlow, match="flow 'etl' has no tasks: call some inside `with flow:`"):
        flow.validate()


def test_a_task_that_never_got_its_arguments_is_refused():
    flow = Flow("etl")
    rows, bound = flow.add_task(extract), flow.add_task(clean)
    with pytest.raises(ArgumentError, match="clean has no argument for rows"):
        flow.validate()
    flow.add_edge(rows, bound, key="rows")
    flow.validate()

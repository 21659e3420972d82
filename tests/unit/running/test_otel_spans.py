"""Traces: one for each flow run, a span for each attempt, under what it waited for."""

from __future__ import annotations

import gc
import sys
import weakref

import pytest
from fakes.machine_story import Story
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from dask_taskrunner import Flow, OpenTelemetry, OptionError, context, otel_spans, signals, task
from dask_taskrunner.observing import Observers
from dask_taskrunner.testing import InProcessRunner, fail, kill_worker, takes


@task(max_retries=1, retry_delay=3600)
def load(n):
    return n


@task
def clean(x):
    return x


@task
def total(*xs):
    return sum(xs)


@pytest.fixture
def traced():
    """Run a flow with some faults, and return its spans by task run and attempt."""

    def run(flow, *faults):
        exporter = InMemorySpanExporter()
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        with InProcessRunner(*faults, on_event=OpenTelemetry(provider)) as runner:
            done = runner.run(flow)
        provider.shutdown()
        return done, {key_of(span): span for span in exporter.get_finished_spans()}

    return run


def key_of(span):
    about = span.attributes
    if "dask_taskrunner.task_run" not in about:
        return span.name
    return about["dask_taskrunner.task_run"], about["dask_taskrunner.attempt"]


def parent_of(span, spans):
    by_id = {other.context.span_id: key for key, other in spans.items()}
    return None if span.parent is None else by_id[span.parent.span_id]


def test_a_run_is_one_trace_and_each_attempt_a_span_under_its_upstream(traced):
    with Flow("etl") as flow:
        clean(load(1))
    run, spans = traced(flow)
    assert spans.keys() == {"etl", ("load", 1), ("clean", 1)}
    assert len({span.context.trace_id for span in spans.values()}) == 1
    assert parent_of(spans["etl"], spans) is None
    assert parent_of(spans["load", 1], spans) == "etl"
    assert parent_of(spans["clean", 1], spans) == ("load", 1)
    assert spans["etl"].attributes["dask_taskrunner.run_name"] == run.run_name
    assert spans["clean", 1].start_time >= spans["load", 1].end_time - 1_000_000


def test_a_retry_is_a_span_that_links_to_the_attempt_before(traced):
    with Flow("etl") as flow:
        clean(load(1))
    _, spans = traced(flow, fail("load", attempts=1))
    first, second = spans["load", 1], spans["load", 2]
    assert first.status.status_code is StatusCode.ERROR
    assert [event.name for event in first.events] == ["exception"]
    assert second.status.status_code is StatusCode.UNSET
    assert [link.context.span_id for link in second.links] == [first.context.span_id]
    # The delay of an hour lies between them.
    assert second.start_time - first.end_time > 3599e9


def test_of_several_upstream_the_one_that_ended_last_is_the_parent(traced):
    with Flow("etl") as flow:
        total(load(1), clean(load(2)))
    _, spans = traced(flow)
    last = spans["total", 1]
    assert parent_of(last, spans) == ("clean", 1)
    assert len(last.links) == 1


def test_children_are_spans_and_what_is_behind_them_is_under_one_of_them(traced):
    with Flow("etl") as flow:
        total(clean.map([1, 2, 3]))
    _, spans = traced(flow)
    children = {("clean[0]", 1), ("clean[1]", 1), ("clean[2]", 1)}
    assert spans.keys() == {"etl", ("total", 1), *children}
    assert parent_of(spans["total", 1], spans) in children
    assert {spans[key].attributes["dask_taskrunner.map_index"] for key in children} == {0, 1, 2}


def test_a_flow_that_fails_is_an_error(traced):
    with Flow("etl") as flow:
        clean(load(1))
    _, spans = traced(flow, fail("load", attempts=2))
    assert spans["etl"].status.status_code is StatusCode.ERROR
    assert ("clean", 1) not in spans


def test_two_runs_are_two_traces(traced):
    with Flow("etl") as flow:
        load(1)
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with InProcessRunner(on_event=OpenTelemetry(provider)) as runner:
        runner.run(flow)
        runner.run(flow)
    provider.shutdown()
    assert len({span.context.trace_id for span in exporter.get_finished_spans()}) == 2


def test_without_the_package_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with pytest.raises(OptionError, match=r"pip install 'dask-taskrunner\[otel\]'"):
        OpenTelemetry()


# --- what a span says of an error, and that every span ends ---------------------------------------


def exception_of(span):
    (event,) = span.events
    return event.name, dict(event.attributes)


def test_an_exception_is_recorded_with_its_traceback(traced):
    @task
    def breaks():
        raise KeyError("price: none")

    with Flow("etl") as flow:
        breaks()
    _, spans = traced(flow)
    name, told = exception_of(spans["breaks", 1])
    assert name == "exception"
    assert told["exception.type"] == "KeyError"
    assert told["exception.message"] == "'price: none'"
    assert 'raise KeyError("price: none")' in told["exception.stacktrace"]
    assert spans["breaks", 1].status.description == "KeyError: 'price: none'"


def test_the_words_of_a_signal_are_not_taken_for_a_type(traced):
    @task
    def gives_up():
        raise signals.FAIL("quota: used up")

    with Flow("etl") as flow:
        gives_up()
    _, spans = traced(flow)
    _, told = exception_of(spans["gives_up", 1])
    assert (told["exception.type"], told["exception.message"]) == ("FAIL", "quota: used up")


def test_what_raised_nothing_has_the_type_that_result_raises(traced):
    @task(timeout=5, max_retries=1, retry_delay=1)
    def slow():
        pass

    with Flow("etl") as flow:
        slow()
        clean(1)
    run, spans = traced(flow, takes("slow", 9), kill_worker("clean"))
    _, told = exception_of(spans["slow", 2])
    assert told["exception.type"] in ("TaskTimedOut", "TimeoutError")
    _, told = exception_of(spans["clean", 1])
    assert told["exception.type"] == "TaskCrashed"
    assert told["exception.message"] == run["clean"].attempts[0].error


def test_what_asked_for_another_try_is_no_exception(traced):
    @task
    def asks():
        if context.attempt == 1:
            raise signals.RETRY("later: please", delay=1)

    with Flow("etl") as flow:
        asks()
    _, spans = traced(flow)
    assert spans["asks", 1].events == ()
    assert spans["asks", 1].status.status_code is StatusCode.UNSET


class Told:
    """The spans of a run that is told as a story."""

    def __init__(self, story):
        self.story, self.exporter = story, InMemorySpanExporter()
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.observers = Observers(
            "nightly", pytest.fail, run_id="1", flow_name="etl", functions=[OpenTelemetry(provider)]
        )
        self.told = 0

    def spans(self):
        machine = self.story.machine
        news, self.told = machine.history[self.told :], len(machine.history)
        self.observers.tell(self.observers.changes(news, machine.records))
        return {key_of(span): span for span in self.exporter.get_finished_spans()}


@pytest.mark.parametrize("end", ["is_cancelled", "loses_cluster"])
def test_what_still_runs_at_the_end_of_a_run_has_a_span_until_then(end):
    story = Story({0: (), 1: (0,)})
    told = Told(story)
    story.starts()
    story.begins(0, "w7")
    assert told.spans() == {}
    story.now = 8.0
    getattr(story, end)()
    spans = told.spans()
    assert spans.keys() == {("t0", 1), "etl"}
    body = spans["t0", 1]
    assert body.end_time - body.start_time == 8_000_000_000
    assert body.attributes["dask_taskrunner.outcome"] == "running"
    assert spans["etl"].end_time == body.end_time
    assert parent_of(body, spans) == "etl"


def test_a_body_that_has_ended_by_the_end_has_one_span():
    story = Story({0: (), 1: (0,)})
    told = Told(story)
    story.starts()
    story.begins(0)
    told.spans()
    story.end(0)
    story.begins(1)
    told.spans()
    story.end(1)
    spans = told.spans()
    assert spans.keys() == {("t0", 1), ("t1", 1), "etl"}
    assert len(told.exporter.get_finished_spans()) == 3


def test_a_span_that_has_ended_is_not_kept():
    began = []

    class Remembers(SpanProcessor):
        def on_start(self, span, parent_context=None):
            began.append(weakref.ref(span))

    alive = []

    def looks(change):
        gc.collect()
        alive.append(len([each for each in began if each() is not None]))

    provider = TracerProvider()
    provider.add_span_processor(Remembers())
    with Flow("etl") as flow:
        total(clean.map([*range(20)]))
    InProcessRunner(on_event=[OpenTelemetry(provider), looks]).run(flow)
    provider.shutdown()
    assert len(began) == 22
    # Until the run ends its own is open; of the others, there is none at any time.
    assert max(alive) == 1
    assert alive[-1] == 0


def test_of_single_calls_the_oldest_are_forgotten(monkeypatch):
    monkeypatch.setattr(otel_spans, "_CALLS", 3)
    traces = OpenTelemetry(TracerProvider())
    with InProcessRunner(on_event=traces) as runner:
        for n in range(9):
            runner.submit(load, n).result(10)
        (trace,) = traces._traces.values()
        assert len(trace._ends) <= 3
        assert len(trace._bodies) <= 3
    assert traces._traces == {}

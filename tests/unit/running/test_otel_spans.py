"""Traces: one for each flow run, a span for each attempt, under what it waited for."""

from __future__ import annotations

import sys

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from dask_taskrunner import Flow, OpenTelemetry, OptionError, task
from dask_taskrunner.testing import InProcessRunner, fail


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

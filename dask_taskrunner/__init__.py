"""Runs flows of tasks on Dask: states, triggers and retries, with no server and no database."""

from dask_taskrunner import (
    cache_validators,
    exceptions,
    hooks,
    signals,
    states,
    testing,
    triggers,
)
from dask_taskrunner.exceptions import (
    ArgumentError,
    ClusterLost,
    ConnectFailed,
    CycleError,
    EmptyFlow,
    FlowError,
    FlowRunFailed,
    InternalError,
    LargeArgument,
    LargeArgumentWarning,
    MappedFailed,
    MissingMainGuard,
    MissingResult,
    MissingTaskState,
    NotAValue,
    NotFinished,
    OptionError,
    OutsideFlow,
    ParameterError,
    RemoteTaskError,
    ResultLost,
    ResultNotHere,
    ResultNotSerializable,
    ResultReleased,
    RunError,
    RunnerClosed,
    TaskCancelled,
    TaskCrashed,
    TaskRunnerError,
    TaskRunnerWarning,
    TaskTimedOut,
    UnknownTask,
    UnpicklableArgument,
    UpstreamFailed,
)
from dask_taskrunner.flow_run import FlowRun
from dask_taskrunner.graph.control_flow import case, ifelse, merge, switch
from dask_taskrunner.graph.edges import Edge
from dask_taskrunner.graph.expansions import expand
from dask_taskrunner.graph.flow import Flow
from dask_taskrunner.graph.lists import drop_missing, filter_task, flatten, product
from dask_taskrunner.graph.mapping import unmapped
from dask_taskrunner.graph.parameters import Parameter
from dask_taskrunner.graph.per_element import apply_map
from dask_taskrunner.graph.tasks import BoundTask, FunctionTask, Task, task
from dask_taskrunner.html_forms import html_of
from dask_taskrunner.observing import StateChange
from dask_taskrunner.otel_spans import OpenTelemetry
from dask_taskrunner.retries import exponential
from dask_taskrunner.run_context import context
from dask_taskrunner.runner import DaskTaskRunner, run_flow
from dask_taskrunner.showing import show
from dask_taskrunner.signals import check_cancelled
from dask_taskrunner.task_run import TaskRun
from dask_taskrunner.task_run_future import TaskRunFuture, TaskRunFutures
from dask_taskrunner.task_runner import TaskRunner
from dask_taskrunner.waiting import as_completed, wait
from dask_taskrunner.worker.clients import get_client

__version__ = "0.1.0"

# Flow.run lives below the runner that does the work.
hooks.register("Flow.run", run_flow)
# What a notebook shows of things is known above them.
hooks.register("html", html_of)
hooks.register("show", show)

__all__ = [
    "ArgumentError",
    "BoundTask",
    "ClusterLost",
    "ConnectFailed",
    "CycleError",
    "DaskTaskRunner",
    "Edge",
    "EmptyFlow",
    "Flow",
    "FlowError",
    "FlowRun",
    "FlowRunFailed",
    "FunctionTask",
    "InternalError",
    "LargeArgument",
    "LargeArgumentWarning",
    "MappedFailed",
    "MissingMainGuard",
    "MissingResult",
    "MissingTaskState",
    "NotAValue",
    "NotFinished",
    "OpenTelemetry",
    "OptionError",
    "OutsideFlow",
    "Parameter",
    "ParameterError",
    "RemoteTaskError",
    "ResultLost",
    "ResultNotHere",
    "ResultNotSerializable",
    "ResultReleased",
    "RunError",
    "RunnerClosed",
    "StateChange",
    "Task",
    "TaskCancelled",
    "TaskCrashed",
    "TaskRun",
    "TaskRunFuture",
    "TaskRunFutures",
    "TaskRunner",
    "TaskRunnerError",
    "TaskRunnerWarning",
    "TaskTimedOut",
    "UnknownTask",
    "UnpicklableArgument",
    "UpstreamFailed",
    "__version__",
    "apply_map",
    "as_completed",
    "cache_validators",
    "case",
    "check_cancelled",
    "context",
    "drop_missing",
    "exceptions",
    "expand",
    "exponential",
    "filter_task",
    "flatten",
    "get_client",
    "ifelse",
    "merge",
    "product",
    "signals",
    "states",
    "switch",
    "task",
    "testing",
    "triggers",
    "unmapped",
    "wait",
]

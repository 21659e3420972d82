from __future__ import annotations

import pytest

from dask_taskrunner import hooks
from dask_taskrunner.exceptions import InternalError


@pytest.fixture
def empty_registry(monkeypatch):
    monkeypatch.setattr(hooks, "_functions", {})


@pytest.mark.usefixtures("empty_registry")
def test_what_is_registered_last_answers():
    hooks.register("Flow.run", lambda flow, **options: "first")
    hooks.register("Flow.run", lambda flow, **options: (flow, options))
    assert hooks.call("Flow.run", "etl", keep="all") == ("etl", {"keep": "all"})


@pytest.mark.usefixtures("empty_registry")
def test_a_hook_that_nobody_answers_is_named():
    with pytest.raises(InternalError, match=r"nothing answers 'Flow.run'"):
        hooks.call("Flow.run")

"""Where a flow run is shown: a block in a notebook's cell, a line where there is one already."""

from __future__ import annotations

import base64
import re
import threading
import weakref
from xml.etree import ElementTree

import pytest
from fakes.fake_backend import launched
from fakes.fake_notebook import FakeShell
from fakes.gates import PATIENCE, Gate, eventually
from html_words import words

from dask_taskrunner import Flow, context, task
from dask_taskrunner.showing import watching


@task
def one():
    return 1


@task
def divide(x, y):
    return x / y


@task
def wait(gate):
    gate.pass_through()


@pytest.fixture
def shell(monkeypatch):
    shell = FakeShell()
    shell.install(monkeypatch)
    return shell


@pytest.fixture
def etl():
    with Flow("etl") as flow:
        one()
    return flow


@pytest.fixture
def gate():
    gate = Gate("showing")
    yield gate
    gate.open()


@pytest.fixture
def waiting(gate):
    with Flow("etl") as flow:
        wait(gate)
    return flow


def watched(run, progress=None):
    with watching(run, progress=progress):
        run.wait(PATIENCE)
    return run


def last_lines(shell):
    return [words(message.html)[-1] for message in shell.messages]


def view_threads():
    return [t for t in threading.enumerate() if t.name.startswith("dask-taskrunner-view")]


def test_what_is_waited_for_is_one_output_that_ends_in_its_final_form(start, etl, shell, capsys):
    run = watched(start(etl))
    first, *others = shell.messages
    assert not first.is_update
    assert all(message.is_update for message in others)
    assert {message.id for message in shell.messages} == {f"dask-taskrunner-{run.run_id}"}
    assert last_lines(shell)[-1].startswith("■ Succeeded after")
    assert shell.messages[-1].plain == repr(run)
    assert not view_threads()
    assert capsys.readouterr() == ("", "")


def test_the_last_picture_is_an_image_for_those_who_run_nothing_and_take_out_most(
    start, waiting, gate, shell
):
    run = start(waiting)
    run._ipython_display_()
    gate.open()
    watched(run)
    live, last = shell.messages[0], shell.messages[-1]
    assert "<svg" in live.html
    assert live.svg is None
    assert "<svg" not in last.html
    (data,) = re.findall('<img [^>]*src="data:image/svg.xml;base64,(.*?)"', last.html)
    assert base64.b64decode(data).decode() == last.svg
    ElementTree.fromstring(last.svg)


def test_in_the_cell_that_has_the_block_a_run_is_a_line_and_whole_in_the_next(start, etl, shell):
    run = watched(start(etl))
    (line,) = words(run._repr_html_())
    assert re.fullmatch(r"■ etl 'nightly': Success, 1 task run, \d+(\.\d)? m?s", line)
    shell.cell = "cell 2"
    assert run._repr_html_() == shell.messages[-1].html
    with pytest.raises(NotImplementedError):
        run._ipython_display_()


def test_two_runs_of_a_cell_have_a_block_each(start, etl, shell):
    watched(start(etl))
    watched(start(etl))
    assert len({message.id for message in shell.messages}) == 2


def test_a_view_that_is_off_draws_nothing_and_the_run_is_shown_whole(start, etl, shell):
    run = watched(start(etl), progress=False)
    assert shell.messages == []
    assert len(words(run._repr_html_())) == 3


def test_a_view_that_is_on_draws_in_the_notebook_too(start, etl, shell, capsys):
    watched(start(etl), progress=True)
    assert shell.messages
    assert capsys.readouterr() == ("", "")


def test_outside_of_a_notebook_the_terminal_draws(start, etl, capsys):
    run = watched(start(etl), progress=True)
    assert "Succeeded after" in capsys.readouterr().err
    with pytest.raises(NotImplementedError):
        run._ipython_display_()
    assert len(words(run._repr_html_())) == 3


def test_a_run_that_goes_on_is_drawn_where_it_is_shown_until_its_end(start, waiting, gate, shell):
    run = start(waiting)
    assert shell.messages == []
    run._ipython_display_()
    shell.cell = "cell 2"
    run._ipython_display_()
    assert [message.is_update for message in shell.messages] == [False, False]
    assert len(view_threads()) == 1
    gate.open()
    run.wait(PATIENCE)
    assert eventually(lambda: not view_threads())
    assert all(message.is_update for message in shell.messages[2:])
    assert last_lines(shell)[-1].startswith("■ Succeeded after")


def test_a_run_that_goes_on_is_not_shown_twice_in_a_cell(start, waiting, shell):
    run = start(waiting)
    run._ipython_display_()
    with pytest.raises(NotImplementedError):
        run._ipython_display_()
    (line,) = words(run._repr_html_())
    assert line.startswith("■ etl 'nightly': Running, 1 task run")


def test_a_run_that_is_shown_and_then_waited_for_has_two_blocks_of_one_id(
    start, waiting, gate, shell
):
    run = start(waiting)
    run._ipython_display_()
    shell.cell = "cell 2"
    with watching(run, progress=None):
        gate.open()
        run.wait(PATIENCE)
    assert [message.is_update for message in shell.messages][:2] == [False, False]
    assert len({message.id for message in shell.messages}) == 1
    assert last_lines(shell)[-1].startswith("■ Succeeded after")


def test_a_run_that_was_shown_and_that_nobody_holds_is_gone(backend, etl, shell):
    run = watched(launched(backend, etl))
    run._repr_html_()
    gone = weakref.ref(run)
    del run
    assert eventually(lambda: gone() is None)


def test_the_cluster_is_named_where_it_is_known(start, etl, shell):
    run = start(etl)
    run.where = "LocalCluster, 2 workers"
    watched(run)
    assert words(shell.messages[-1].html)[0] == "etl 'nightly' on LocalCluster, 2 workers"


def test_an_interrupt_leaves_the_block_as_cancelled(start, waiting, shell):
    run = start(waiting)

    def interrupted():
        with watching(run, progress=None):
            try:
                raise KeyboardInterrupt
            finally:
                run.cancel()

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert last_lines(shell)[-1].startswith("■ Cancelled after")
    assert not view_threads()


def test_an_interrupt_that_comes_with_the_first_picture_is_drawn_too(start, waiting, shell):
    run, publish = start(waiting), shell.publish

    def interrupted(data, metadata=None, *, transient=None, update=False):
        publish(data, metadata, transient=transient, update=update)
        if not update:
            raise KeyboardInterrupt

    shell.publish = interrupted
    with pytest.raises(KeyboardInterrupt), watching(run, progress=None):
        pass
    run.cancel()
    assert eventually(lambda: not view_threads())
    assert last_lines(shell)[-1].startswith("■ Cancelled after")


def test_a_failed_run_ends_with_what_failed(start, shell):
    with Flow("etl") as flow:
        divide(1, 0)
    run = watched(start(flow))
    shown = shell.messages[-1].html
    assert run.failure_text().splitlines()[0] in words(shown)
    assert any("ZeroDivisionError: division by zero" in line for line in words(shown))
    head, _, folded = shown.partition("<details>")
    assert "Traceback" in folded
    assert "Traceback" not in head


# --- what is logged ------------------------------------------------------------------------------


@task
def talk(n):
    for i in range(n):
        context.logger.info("\x1b[31mline\x1b[0m %d of <%d>", i, n)
    context.logger.warning("the last one")


@pytest.fixture
def talking():
    def make(n):
        with Flow("etl") as flow:
            talk(n)
        return flow

    return make


def test_a_notebook_has_the_last_log_lines_folded_under_the_block(start, talking, shell):
    run = watched(start(talking(3)))
    html = shell.messages[-1].html
    assert "<details><summary" in html
    assert "4 log lines</summary>" in html
    assert re.search(r"\d\d:\d\d:\d\d talk INFO line 2 of &lt;3&gt;", html)
    assert "the last one" in html
    run = watched(start(talking(100)))
    html = shell.messages[-1].html
    assert "the last 20 of 101 log lines</summary>" in html
    assert html.count(" talk INFO line ") == 19
    assert run._repr_html_().count("log lines") == 0


def test_what_has_failed_is_told_while_the_run_goes_on_and_where_it_succeeds(start, gate, shell):
    with Flow("etl") as flow:
        for n in range(5):
            divide(n, 0)
        flow.set_reference_tasks([wait(gate)])
    run = start(flow)
    run._ipython_display_()

    def told():
        return [line for line in words(shell.messages[-1].html) if "divi" in line or "more" in line]

    assert eventually(lambda: "and 2 more failed" in told()), told()
    lines = told()
    said = r"■ divide(-\d)? ZeroDivisionError: division by zero attempt 1 of 1, fake://\d"
    assert re.fullmatch(said, lines[-4]), lines
    assert "<details" not in shell.messages[-1].html
    gate.open()
    watched(run)
    assert told()[-4:] == lines[-4:]
    assert last_lines(shell)[-1] == "and 2 more failed"


def test_a_notebook_folds_nothing_where_nothing_is_logged(start, etl, shell):
    watched(start(etl))
    assert "log line" not in shell.messages[-1].html


def test_a_terminal_has_log_lines_above_the_block(start, talking, capsys):
    watched(start(talking(30)), progress=True)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "(11 more lines)"
    assert re.fullmatch(r"\d\d:\d\d:\d\d talk INFO line 11 of <30>", lines[1])
    assert lines[20].endswith(" talk WARNING the last one")
    assert lines[21].startswith("etl 'nightly' on")


def test_a_terminal_shows_no_line_twice_though_a_run_is_watched_twice(start, talking, capsys):
    run = start(talking(1))
    watched(run, progress=True)
    watched(run, progress=True)
    assert capsys.readouterr().err.count("the last one") == 1


def test_without_a_view_nothing_is_shown(start, talking, capsys):
    watched(start(talking(1)), progress=False)
    watched(start(talking(1)))
    assert capsys.readouterr() == ("", "")

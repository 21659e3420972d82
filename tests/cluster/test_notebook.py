"""What a notebook's cells show of runs, in a kernel as it is."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest
from html_words import words
from kernels import started_kernel

pytestmark = pytest.mark.cluster

EXAMPLE = Path(__file__).parents[2] / "docs" / "notebook.ipynb"

DEFINITIONS = """
    import sys, threading, time
    from pathlib import Path
    from dask_taskrunner import DaskTaskRunner, Flow, task

    runner = DaskTaskRunner(address={address!r})

    @task
    def extract(n):
        return n

    @task(name="<b>load")
    def load(numbers):
        return sum(numbers)

    @task
    def divide(x, y):
        return x / y

    @task
    def wait(directory, began):
        (directory / began).touch()
        for _ in range(3000):
            if (directory / "go").exists():
                return 1
            time.sleep(0.01)

    with Flow("etl") as etl:
        total = load([extract(n) for n in range(3)])

    with Flow("divisions") as divisions:
        extract(divide(6, 0))

    def waiting(began):
        with Flow("waiting") as flow:
            wait(Path({directory!r}), began)
        return flow

    def our_threads():
        return [t.name for t in threading.enumerate() if t.name.startswith("dask-taskrunner-view")]
    """


@pytest.fixture(scope="module")
def directory(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("notebook")


@pytest.fixture(scope="module")
def kernel(cluster, directory):
    with started_kernel(directory) as kernel:
        kernel.run(DEFINITIONS.format(address=cluster.scheduler_address, directory=str(directory)))
        yield kernel
        kernel.run("runner.close()")


def without_times(text: str) -> str:
    return re.sub(r"\d+(\.\d)? m?s\b", "TIME", text)


def test_a_run_is_one_block_and_one_line_where_it_was_called_and_whole_in_later_cells(kernel):
    first = kernel.run("run = runner.run(etl, run_name='nightly'); run")
    block, line = kernel.html(first)
    assert [output.output_type for output in kernel.outputs(first)] == [
        "display_data",
        "execute_result",
    ]
    assert words(without_times(line)) == ["■ etl 'nightly': Success, 4 task runs, TIME"]
    lines = words(without_times(block))
    assert lines[0].startswith("etl 'nightly' on ")
    assert [line.removesuffix(" TIME") for line in lines[1:]] == [
        "extract 3/3",
        "<b>load 1/1",
        "■ Succeeded after TIME: reference tasks succeeded",
    ]
    later = kernel.run("run")
    assert kernel.html(later) == [block]
    (output,) = kernel.outputs(later)
    assert output.data["text/plain"] == "<FlowRun etl 'nightly' Success: 4 Success>"


def test_nothing_is_drawn_on_a_stream_and_no_thread_draws_on(kernel):
    cell = kernel.run("result = runner.run(etl).result(); print(result, our_threads())")
    assert kernel.text(cell) == "3 []\n"
    assert len(kernel.html(cell)) == 1


def test_a_view_that_is_off_leaves_the_run_to_be_shown(kernel):
    cell = kernel.run("runner.run(etl, progress=False)")
    (shown,) = kernel.html(cell)
    assert "Succeeded" in shown


def test_a_failed_run_ends_with_the_error_text_and_its_traceback_folded(kernel):
    (block,) = kernel.html(kernel.run("run = runner.run(divisions)"))
    cell = kernel.run("print(run.failure_text())")
    head, folded, tail = re.split("<details>|</details>", block)
    said = "\n".join(words(head + tail))
    for line in kernel.text(cell).splitlines():
        if not line.startswith(('    File "', "      ")):
            assert all(part in said for part in line.split("  ")), line
    assert "ZeroDivisionError: division by zero" in said
    assert ", in divide" not in said
    assert ", in divide" in folded


def test_a_run_that_raises_for_its_failure_leaves_its_block_above_the_error(kernel):
    cell = kernel.fails("runner.run(divisions, raise_on_failure=True)", "FlowRunFailed")
    (block,) = kernel.html(cell)
    assert "Failed after" in block


def test_a_run_that_was_started_is_drawn_where_it_is_shown_until_its_end(kernel, directory):
    started = kernel.run("run = runner.start(waiting('began-1'))")
    assert kernel.outputs(started) == []
    cell = kernel.run("run")
    (block,) = kernel.html(cell)
    assert "0 of 1 finished" in block
    other = kernel.run("run")
    (directory / "go").touch()
    # Both are drawn anew while another cell is executed.
    kernel.run("""
        run.wait()
        while our_threads():
            time.sleep(0.01)
        """)
    (directory / "go").unlink()
    assert kernel.html(cell) == kernel.html(other)
    assert "Succeeded after" in kernel.html(cell)[0]


def test_an_interrupt_leaves_the_block_as_cancelled_and_the_next_cell_works(kernel, directory):
    interrupting = kernel.interrupt_when(directory / "began-2")
    cell = kernel.fails("runner.run(waiting('began-2'))", "KeyboardInterrupt")
    interrupting.join()
    (directory / "go").touch()
    (block,) = kernel.html(cell)
    assert "Cancelled after" in block
    after = kernel.run("runner.last_run.cancel(wait=10); print(runner.run(etl).result())")
    (directory / "go").unlink()
    assert kernel.text(after) == "3\n"


def test_what_a_user_holds_is_shown_as_html_and_its_names_as_they_are(kernel):
    shown = {
        "etl": "flow 'etl'",
        "load": "task <b>load (numbers)",
        "run['extract-2']": "extract-2 Success",
        "run.states['extract']": "Success",
        "runner.submit(extract, 5)": "extract",
        "runner.map(extract, [1, 2])": "2 task runs",
    }
    kernel.run("run = runner.run(etl, progress=False)")
    for expression, said in shown.items():
        cell = kernel.run(expression)
        (form,) = kernel.html(cell)
        assert said in " ".join(words(form)), expression
        assert "text/plain" in kernel.outputs(cell)[0].data
    # A bound task makes an error of most questions, but not of IPython's.
    (output,) = kernel.outputs(kernel.run("total"))
    assert output.data == {"text/plain": "<BoundTask '<b>load'>"}


def test_futures_are_a_line_for_each_state_failures_first(kernel):
    kernel.run("""
        many = runner.map(divide, [6, 6, 6], [3, 0, 2])
        ended = [future.exception() for future in many]
        """)
    (shown,) = kernel.html(kernel.run("many"))
    assert words(shown) == [
        "divide 3 task runs",
        "■ 1 Failed",
        "divide[1] ZeroDivisionError: division by zero",
        "■ 2 Success",
    ]
    lines = words(kernel.html(kernel.run("many[1]"))[0])
    assert lines[0] == "divide[1] Failed ZeroDivisionError: division by zero"
    assert lines[1].startswith("attempt 1 failed ")
    assert lines[2:5] == ["x 6", "y 0", "traceback"]


def test_the_example_notebook_runs_and_is_stored_without_outputs(tmp_path):
    notebook = nbformat.read(EXAMPLE, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in code)
    with started_kernel(tmp_path, notebook) as kernel:
        kernel.run_all()
    shown = ["\n".join(words("".join(kernel.html(n)))) for n in range(len(notebook.cells))]
    (failed,) = [n for n, cell in enumerate(notebook.cells) if '"lima"])' in cell.source]
    assert "add_up[2] ValueError: negative price: -1" in shown[failed]
    assert "not run: report" in shown[failed]
    (live,) = [n for n, cell in enumerate(notebook.cells) if "runner.start(flow)" in cell.source]
    assert "Succeeded after" in shown[live]

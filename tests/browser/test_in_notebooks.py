"""The live graph in JupyterLab and in Notebook 7, driven as a person does it."""

from __future__ import annotations

import itertools
import textwrap

import nbformat
import pytest
from marks import eventually
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from dask_taskrunner import Flow, task
from dask_taskrunner.states import COLORS
from dask_taskrunner.testing import InProcessRunner

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(180)]

CELLS = [
    """
    from pathlib import Path
    import time
    from dask_taskrunner import DaskTaskRunner, Flow, task

    @task
    def load(n):
        return n

    @task
    def add(x, y):
        return x + y

    @task(max_retries=1, retry_delay=6)
    def flaky(x):
        raise ValueError("no luck <b>today</b>")

    @task
    def hold(x):
        while not Path("go").exists():
            time.sleep(0.05)

    @task
    def after(x, y): ...

    with Flow("etl") as flow:
        loads = [load(n) for n in range(9)]
        sums = [add(a, b) for a, b in zip(loads, loads[1:])]
        more = [add(a, b) for a, b in zip(sums, sums[2:])]
        doubled = [load(n) for n in more]
        after(flaky(doubled[0]), hold(doubled[1]))

    runner = DaskTaskRunner(cluster_kwargs={"n_workers": 2, "threads_per_worker": 1})
    """,
    "run = runner.start(flow); run",
    "'the next cell works', time.sleep(0)",
]

BOXES = """
return [...document.querySelectorAll('.jp-OutputArea-output svg rect[data-slug]')].map(box => {
  const at = box.getBoundingClientRect();
  return {slug: box.dataset.slug, state: box.dataset.state, fill: box.getAttribute('fill'),
          shown: getComputedStyle(box).fill, tip: box.querySelector('title').textContent,
          left: at.left, top: at.top, right: at.right, bottom: at.bottom};
})"""
IS_THERE = "return !!window.jupyterapp?.shell?.currentWidget?.sessionContext"
#: A person sees when the page has found its kernel.
FIND_KERNEL = """
const done = arguments[0], widget = window.jupyterapp.shell.currentWidget;
(async () => {
  await widget.context.ready;
  await widget.sessionContext.ready;
  const kernel = widget.sessionContext.session.kernel;
  await kernel.info;
  while (kernel.connectionStatus !== 'connected') await new Promise(r => setTimeout(r, 100));
  return 'found';
})().then(done, error => done(String(error)))"""
#: As the menu does it.
RUN_ALL = "window.jupyterapp.commands.execute('notebook:run-all-cells')"
TEXTS = """
return [...document.querySelectorAll('.jp-OutputArea-output svg text')].map(t => t.textContent)"""
#: The last picture, as it has been drawn, and what it tells of its nodes.
LAST = """
const image = document.querySelector('.jp-OutputArea-output img[src^="data:image/svg"]');
if (!image || !image.complete) return null;
image.scrollIntoView();
const at = image.getBoundingClientRect();
const map = document.querySelector(`map[name="${image.useMap.slice(1)}"]`);
const areas = [...(map ? map.areas : [])];
const pointed = areas.slice(0, 1).map(area => {
  const [left, top, right, bottom] = area.coords.split(',').map(Number);
  return document.elementFromPoint(at.left + (left + right) / 2, at.top + (top + bottom) / 2);
});
return {text: image.closest('.jp-OutputArea').innerText, tips: areas.map(area => area.title),
        pointed: pointed.map(element => element && element.title),
        wide: image.naturalWidth, shown: at.width};
"""


@pytest.fixture
def opened(browser, jupyter):
    """Give a function that opens a notebook of these cells, and the directory that it is in."""
    place, directory = jupyter

    def open_notebook(cells):
        # Without a kernel's name a dialog asks for one.
        metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
        made = nbformat.v4.new_notebook(cells=cells, metadata=metadata)
        nbformat.write(made, directory / "etl.ipynb")
        browser.get(place.format("etl.ipynb"))
        WebDriverWait(browser, 60).until(lambda b: b.execute_script(IS_THERE))
        assert browser.execute_async_script(FIND_KERNEL) == "found"
        return directory

    return open_notebook


@pytest.fixture
def notebook(browser, opened):
    """The directory of a notebook that is open, and all of whose cells run."""
    directory = opened([nbformat.v4.new_code_cell(textwrap.dedent(cell).strip()) for cell in CELLS])
    browser.execute_script(RUN_ALL)
    return directory


def rgb(color):
    red, green, blue = (int(color[at : at + 2], 16) for at in (1, 3, 5))
    return f"rgb({red}, {green}, {blue})"


def test_the_graph_is_drawn_in_the_colors_of_the_states_and_goes_on(browser, notebook):
    def boxes():
        return {box["slug"]: box for box in browser.execute_script(BOXES)}

    def states():
        return {slug: box["state"] for slug, box in boxes().items()}

    wanted = {"flaky": "Retrying", "hold": "Running", "after": "Pending", "load": "Success"}
    assert eventually(lambda: wanted.items() <= states().items(), 60), states()
    shown = boxes()
    assert len(shown) >= 30
    for box in shown.values():
        assert box["fill"] == COLORS[box["state"]]
        assert box["shown"] == rgb(box["fill"])
    for one, other in itertools.combinations(shown.values(), 2):
        apart_x = one["right"] <= other["left"] or other["right"] <= one["left"]
        assert apart_x or one["bottom"] <= other["top"] or other["bottom"] <= one["top"]
    # The countdown counts, long after the cell has finished.
    counts = set()
    assert eventually(lambda: counts.update(due(browser)) or len(counts) > 3, 10), counts
    assert "the next cell works" in browser.find_element(By.TAG_NAME, "body").text
    assert "ValueError: no luck <b>today</b>" in shown["flaky"]["tip"]
    (notebook / "go").touch()
    assert eventually(lambda: browser.execute_script(LAST), 30), states()
    last = browser.execute_script(LAST)
    assert "after: TriggerFailed" in [tip.partition("\n")[0] for tip in last["tips"]]
    assert len(last["tips"]) == len(shown)
    # Who points at the first node is told of it.
    assert last["pointed"] == last["tips"][:1]
    # Where it is wider than the page it is scrolled.
    assert last["shown"] == last["wide"] > 0
    told = last["text"]
    assert "Failed after" in told
    assert "ValueError: no luck <b>today</b>" in told
    assert "not run: after" in told
    assert "traceback" in told


def due(browser):
    return [text for text in browser.execute_script(TEXTS) if text.startswith("due in")]


def test_a_notebook_that_is_not_trusted_shows_the_last_picture_and_no_heap_of_texts(
    browser, opened
):
    with Flow("etl") as flow:
        inverted = task(lambda x: 1 / x, name="invert").map([1, 0])
        task(sum, name="total")(inverted)
    shown = InProcessRunner().run(flow)._repr_html_()
    output = nbformat.v4.new_output("display_data", {"text/html": shown})
    opened([nbformat.v4.new_code_cell("from_a_colleague()", outputs=[output], execution_count=1)])
    last = WebDriverWait(browser, 60).until(lambda b: b.execute_script(LAST))
    assert last["shown"] == last["wide"] > 0
    assert "ZeroDivisionError: division by zero" in last["text"]
    # What stands in the picture, and what is told of its nodes, is not read as text.
    assert "began" not in last["text"]

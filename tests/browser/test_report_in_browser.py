"""The report, opened in a browser."""

from __future__ import annotations

import time

import pytest
from inverses import invert, numbers
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from dask_taskrunner import Flow, task
from dask_taskrunner.report.page import page
from dask_taskrunner.reports import report_of
from dask_taskrunner.testing import InProcessRunner, fail

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


@task
def total(xs):
    return sum(xs)


def flow_of(n):
    with Flow("etl") as flow:
        total(invert.map(numbers(n)))
    return flow


@pytest.fixture
def opened(browser, tmp_path):
    def open_report(n, *faults):
        path = InProcessRunner(*faults).run(flow_of(n)).report(tmp_path / "run.html")
        browser.get(path.as_uri())
        return path

    return open_report


def cells(browser, column):
    """The texts of a column of the table."""
    rows = browser.find_elements(By.CSS_SELECTOR, f"#runs tbody td:nth-child({column})")
    return [row.text for row in rows]


def test_it_shows_graph_timeline_and_table(browser, opened):
    opened(8, fail("invert[5]", attempts=1))
    assert "Failed" in browser.find_element(By.TAG_NAME, "h1").text
    assert len(browser.find_elements(By.CSS_SELECTOR, "svg rect[data-slug]")) == 3
    slugs = cells(browser, 1)
    assert [slug.removeprefix("▸ ") for slug in slugs][:3] == ["numbers", "invert", "invert[0]"]
    assert len(slugs) == 11
    canvas = browser.find_element(By.TAG_NAME, "canvas")
    painted = browser.execute_script(
        "const c = arguments[0]; const d = c.getContext('2d').getImageData(0, 0, c.width, c.height)"
        ".data; let n = 0; for (let i = 3; i < d.length; i += 4) n += d[i] > 0; return n", canvas,
    )  # fmt: skip
    assert painted > 1000


def test_the_table_is_filtered_sorted_and_opened(browser, opened):
    opened(8)
    search = browser.find_element(By.ID, "filter")
    search.send_keys("ZeroDivision")
    assert cells(browser, 1) == ["▸ invert[3]", "total"]
    browser.find_element(By.CSS_SELECTOR, "#runs tbody tr").click()
    details = browser.find_element(By.CSS_SELECTOR, "#runs tr.details").text
    assert "x=3" in details
    assert "attempt 1: retrying" in details
    search.send_keys(Keys.CONTROL, "a")
    search.send_keys("invert[")
    browser.find_element(By.XPATH, "//*[@id='runs']//th[1]").click()
    browser.find_element(By.XPATH, "//*[@id='runs']//th[1]").click()
    # What names one of them in its message is found, too.
    found = [slug.removeprefix("▸ ") for slug in cells(browser, 1)]
    assert found == ["total", *(f"invert[{n}]" for n in reversed(range(8)))]
    browser.find_element(By.CSS_SELECTOR, "#state option[value='Failed']").click()
    assert cells(browser, 3) == ["Failed"]


def test_ten_thousand_task_runs_are_opened_within_two_seconds(browser, tmp_path):
    run = InProcessRunner().run(flow_of(100))
    report = report_of(run, "")
    few = report.contents
    many = {
        **few,
        "rows": [[f"{row[0]} again {n}", *row[1:]] for n in range(100) for row in few["rows"][2:]],
        "bars": [[row + 100 * n - 2, *bar] for n in range(100) for row, *bar in few["bars"][1:]],
        "waits": few["waits"][1:] * 100,
    }
    assert len(many["rows"]) > 10_000
    path = tmp_path / "run.html"
    path.write_text(page(report._replace(contents=many)), encoding="utf-8")
    assert path.stat().st_size < 5_000_000
    began = time.perf_counter()
    browser.get(path.as_uri())
    assert f"of {len(many['rows'])}" in browser.find_element(By.ID, "count").text
    assert time.perf_counter() - began < 2
    browser.find_element(By.ID, "filter").send_keys("invert[99] again 99")
    assert cells(browser, 1) == ["invert[99] again 99"]

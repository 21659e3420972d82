"""The report's timeline and table, used by a mouse, by keys, and by a text that means harm."""

from __future__ import annotations

import base64

import pytest
from inverses import invert, numbers
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from dask_taskrunner import Flow, states, task
from dask_taskrunner.report.page import page
from dask_taskrunner.reports import report_of
from dask_taskrunner.testing import InProcessRunner, takes

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

EVIL = "</script><script>window.hacked = 1</script><img src=x onerror='window.hacked = 2'>"


@task
def fail(text):
    raise ValueError(text)


def etl(n=8):
    with Flow("etl") as flow:
        invert.map(numbers(n))
    return flow


@pytest.fixture
def opened(browser, tmp_path):
    def open_report(flow, *faults, **options):
        run = InProcessRunner(*faults).run(flow, **options)
        browser.get(run.report(tmp_path / "run.html").as_uri())
        return run

    return open_report


@pytest.fixture
def long_one(opened):
    """A run in which each body takes a second."""
    return opened(etl(), takes("numbers", 1), *(takes(f"invert[{n}]", 1) for n in range(8)))


def settle(browser):
    """Wait until what was asked for is drawn."""
    browser.execute_async_script(
        "const done = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(done))"
    )


def seen(browser):
    settle(browser)
    return browser.find_element(By.ID, "window").text


def picked(browser):
    settle(browser)
    return browser.find_element(By.ID, "picked").text


def timeline(browser):
    return browser.find_element(By.ID, "timeline")


def pixels(browser, id="lanes"):
    settle(browser)
    return browser.execute_script("return document.getElementById(arguments[0]).toDataURL()", id)


# --- moving -------------------------------------------------------------------------------------


def test_keys_go_closer_and_further_and_show_the_whole(browser, long_one):
    box = timeline(browser)
    before = pixels(browser)
    assert seen(browser) == ""
    box.send_keys("+")
    closer = seen(browser)
    assert " to " in closer
    assert pixels(browser) != before
    box.send_keys(Keys.SHIFT, Keys.ARROW_RIGHT)
    assert seen(browser) != closer
    box.send_keys("0")
    assert seen(browser) == ""
    assert pixels(browser) == before


def test_buttons_do_the_same(browser, long_one):
    browser.find_element(By.ID, "closer").click()
    closer = seen(browser)
    browser.find_element(By.ID, "later").click()
    assert seen(browser) != closer
    browser.find_element(By.ID, "earlier").click()
    assert seen(browser) == closer
    browser.find_element(By.ID, "whole").click()
    assert seen(browser) == ""
    assert not browser.find_element(By.ID, "further").is_enabled()


def wheel(browser, by, **keys):
    more = {"clientX": 700, "deltaY": by, "bubbles": True, "cancelable": True, **keys}
    return browser.execute_script(
        "const turned = new WheelEvent('wheel', arguments[0]);"
        "return document.getElementById('lanes').dispatchEvent(turned)",
        more,
    )


def test_the_wheel_scrolls_the_page_until_the_timeline_is_meant(browser, long_one):
    assert wheel(browser, -100)
    assert seen(browser) == ""
    assert not wheel(browser, -100, ctrlKey=True)
    closer = seen(browser)
    assert closer
    browser.execute_script("document.getElementById('timeline').focus()")
    assert not wheel(browser, -100)
    assert seen(browser) != closer
    there = seen(browser)
    assert not wheel(browser, 100, shiftKey=True)
    assert seen(browser) != there


def test_dragging_moves_it_and_with_shift_chooses_a_time(browser, long_one):
    lanes = browser.find_element(By.ID, "lanes")
    ActionChains(browser).key_down(Keys.SHIFT).move_to_element(lanes).click_and_hold().move_by_offset(
        200, 0
    ).release().key_up(Keys.SHIFT).perform()  # fmt: skip
    chosen = seen(browser)
    assert chosen
    ActionChains(browser).move_to_element(lanes).click_and_hold().move_by_offset(
        -100, 0
    ).release().perform()  # fmt: skip
    moved = seen(browser)
    assert moved != chosen
    strip = browser.find_element(By.ID, "overview")
    browser.find_element(By.ID, "whole").click()
    ActionChains(browser).move_to_element(strip).click_and_hold().move_by_offset(
        150, 0
    ).release().perform()  # fmt: skip
    assert seen(browser)


# --- looking at one -----------------------------------------------------------------------------


def test_keys_go_from_bar_to_bar_and_find_it_in_the_table(browser, long_one):
    box = timeline(browser)
    box.send_keys(Keys.ARROW_RIGHT)
    assert picked(browser).startswith("numbers: success, began 0 ms after the start, took 1.0 s")
    box.send_keys(Keys.ARROW_RIGHT)
    assert picked(browser).startswith("invert[0]: success")
    box.send_keys(Keys.ENTER)
    assert browser.find_element(By.ID, "filter").get_attribute("value") == "invert[0]"
    assert "invert[0]" in browser.switch_to.active_element.text
    box.send_keys(Keys.ESCAPE)
    assert picked(browser) == ""


def test_what_is_pointed_at_tells_of_itself_and_of_its_waits(browser, long_one):
    box = timeline(browser)
    for _ in range(20):
        box.send_keys(Keys.ARROW_RIGHT)
        if picked(browser).startswith("invert[3]: failed"):
            break
    told = picked(browser)
    assert "5.0 s waiting for a retry or an approval before" in told
    assert "on in-process://0 #1" in told
    at = browser.execute_script(
        "const box = document.getElementById('lanes').getBoundingClientRect(); return box.width / 2"
    )
    browser.find_element(By.ID, "by-run").click()
    ActionChains(browser).move_to_element_with_offset(
        browser.find_element(By.ID, "lanes"), -at + 215, -60
    ).perform()  # fmt: skip
    tip = browser.find_element(By.ID, "tip")
    WebDriverWait(browser, 10).until(lambda _: tip.is_displayed())
    assert "after the start, took" in tip.text


def test_lanes_of_task_runs_show_each_with_its_retry(browser, long_one):
    by_thread = pixels(browser)
    button = browser.find_element(By.ID, "by-run")
    button.click()
    assert button.get_attribute("aria-pressed") == "true"
    assert pixels(browser) != by_thread
    high = browser.execute_script("return document.getElementById('timeline').scrollHeight")
    assert high >= 9 * 20
    browser.find_element(By.ID, "by-thread").click()
    assert pixels(browser) == by_thread


def test_one_task_can_be_looked_at_alone_and_the_path_is_shown(browser, long_one):
    plain = pixels(browser)
    label = browser.find_element(By.CSS_SELECTOR, "#tasks button")
    label.click()
    assert label.get_attribute("aria-pressed") == "true"
    assert pixels(browser) != plain
    label.click()
    assert pixels(browser) == plain
    browser.find_element(By.ID, "on-path").click()
    assert pixels(browser) != plain


def test_what_failed_and_what_is_drawn_leads_to_the_table(browser, long_one):
    browser.find_element(By.CSS_SELECTOR, ".failure button[data-find]").click()
    rows = browser.find_elements(By.CSS_SELECTOR, "#runs tbody tr")
    assert rows[0].text.startswith("▾ invert[3]")
    assert "attempt 2: failed after 1.0 s on in-process://0" in rows[1].text
    assert picked(browser).startswith("invert[3]: failed")
    browser.find_element(By.CSS_SELECTOR, "svg [data-slug='numbers']").send_keys(Keys.ENTER)
    assert browser.find_element(By.CSS_SELECTOR, "#runs tbody tr").text.startswith("numbers")


# --- the table ----------------------------------------------------------------------------------


def test_the_table_is_sorted_and_opened_by_keys(browser, long_one):
    def head():
        return browser.find_elements(By.CSS_SELECTOR, "#runs thead th")

    assert {cell.get_attribute("aria-sort") for cell in head()} == {"none"}
    head()[0].find_element(By.TAG_NAME, "button").send_keys(Keys.ENTER)
    assert head()[0].get_attribute("aria-sort") == "ascending"
    browser.switch_to.active_element.send_keys(Keys.ENTER)
    assert head()[0].get_attribute("aria-sort") == "descending"
    search = browser.find_element(By.ID, "filter")
    search.send_keys("invert[3]")
    button = browser.find_element(By.CSS_SELECTOR, "#runs tbody button")
    assert button.get_attribute("aria-expanded") == "false"
    button.send_keys(Keys.ENTER)
    assert button.get_attribute("aria-expanded") == "true"
    assert "x=3" in browser.find_element(By.CSS_SELECTOR, "#runs tr.details").text
    button.send_keys(Keys.ENTER)
    assert not browser.find_elements(By.CSS_SELECTOR, "#runs tr.details")


def test_columns_in_which_nothing_stands_are_not_there(browser, opened):
    opened(etl(3))
    heads = [cell.text for cell in browser.find_elements(By.CSS_SELECTOR, "#runs thead th")]
    assert "state" in heads
    assert "retry delay" not in heads


# --- small runs, paper, and those who see little ------------------------------------------------


def test_one_short_body_is_seen(browser, opened):
    with Flow("one") as flow:
        numbers(1)
    opened(flow)
    assert timeline(browser).get_attribute("aria-label") == (
        "timeline: 1 attempt on 1 thread of workers, in 0 ms"
    )
    timeline(browser).send_keys(Keys.ARROW_DOWN)
    assert picked(browser).startswith("numbers: success")


def test_where_nothing_ran_it_is_said(browser, opened):
    with Flow("given") as flow:
        numbers(1)
    opened(flow, task_states={"numbers": states.Success(result=[])})
    assert "No body of a task is known to have run." in browser.find_element(By.ID, "times").text
    assert browser.find_element(By.CSS_SELECTOR, "#runs tbody tr").text.startswith("numbers")


def test_every_control_has_a_name(browser, long_one):
    nameless = browser.execute_script(
        "return [...document.querySelectorAll('button, input, select, [tabindex], canvas')]"
        ".filter(e => e.ariaHidden !== 'true' && !e.closest('[role=application]'))"
        ".filter(e => !(e.ariaLabel || e.textContent.trim())).map(e => e.outerHTML)"
    )
    assert nameless == []


def test_on_paper_it_is_light_and_whole(browser, opened):
    opened(etl(150))
    assert len(browser.find_elements(By.CSS_SELECTOR, "#runs tbody tr")) == 100
    assert base64.b64decode(browser.print_page()).startswith(b"%PDF")
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print", "features": [
        {"name": "prefers-color-scheme", "value": "dark"}]})  # fmt: skip
    try:
        browser.execute_script("window.dispatchEvent(new Event('beforeprint'))")
        assert len(browser.find_elements(By.CSS_SELECTOR, "#runs tbody tr")) == 152
        ground = "return getComputedStyle(document.body).backgroundColor"
        assert browser.execute_script(ground) == "rgb(255, 255, 255)"
        assert not browser.find_element(By.ID, "filter").is_displayed()
    finally:
        browser.execute_script("window.dispatchEvent(new Event('afterprint'))")
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": []})


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_is_drawn_in_the_colors_of_the_page(browser, long_one, scheme):
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    try:
        settle(browser)
        same = browser.execute_script(
            "const c = document.getElementById('lanes'), d = c.getContext('2d').getImageData("
            "c.width - 3, 1, 1, 1).data; return [`rgb(${d[0]}, ${d[1]}, ${d[2]})`,"
            "getComputedStyle(document.body).backgroundColor]"
        )
        assert same[0] == same[1]
    finally:
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


# --- a text that means harm ---------------------------------------------------------------------


def test_no_text_of_the_users_does_anything(browser, opened):
    @task(log_prints=True)
    def talk(text):
        print(text)
        raise ValueError(text)

    # A name has no slash.
    name = EVIL.replace("/", "")
    with Flow(name) as flow:
        task(talk.body, name=name, log_prints=True)(EVIL)
    opened(flow, run_name=EVIL)
    browser.find_element(By.CSS_SELECTOR, "#runs tbody button").click()
    timeline(browser).send_keys(Keys.ARROW_RIGHT)
    assert name in picked(browser)
    assert EVIL in browser.find_element(By.CSS_SELECTOR, "#runs tr.details").text
    assert browser.execute_script("return window.hacked ?? null") is None
    assert not browser.find_elements(By.TAG_NAME, "img")


def test_even_what_gets_into_the_page_is_not_run_and_loads_nothing(browser, tmp_path):
    """Were a text not escaped some day, the page's policy would still keep it from doing harm."""
    text = page(report_of(InProcessRunner().run(etl(3)), ""))
    picture = "<img src='http://127.0.0.1:9/' onerror='window.hacked = 2'>"
    evil = f"<script>window.hacked = 1</script>{picture}"
    path = tmp_path / "run.html"
    path.write_text(text.replace("<main>", f"<main>{evil}", 1), encoding="utf-8")
    browser.get(path.as_uri())
    assert browser.find_elements(By.CSS_SELECTOR, "main img")
    assert browser.execute_script("return window.hacked ?? null") is None
    # What is its own runs.
    assert browser.find_elements(By.CSS_SELECTOR, "#runs tbody tr")
    refused = [entry["message"] for entry in browser.get_log("browser")]
    assert len(refused) >= 2
    assert all("Content Security Policy" in message for message in refused)

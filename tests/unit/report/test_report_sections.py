"""What the report's page says without its script."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser

import pytest

from dask_taskrunner.insight.paths import CriticalPath, Step
from dask_taskrunner.insight.waits import Spent
from dask_taskrunner.report import sections
from dask_taskrunner.report.page import Report, page
from dask_taskrunner.report.sections import Tile
from dask_taskrunner.view.failure_text import Failure, FailureReport, NotRun

EVIL = "</script><img onerror=alert(1)>\"' onclick=alert(1) <!-- \x00\x1b[31m\ud800"
NOTHING = {
    "rows": [], "lanes": [], "bars": [], "waits": [], "path": [], "details": {}, "seconds": 0.0,
    "names": [], "states": [], "texts": [], "outcomes": [],
}  # fmt: skip


def a_report(**more):
    known = {
        "title": "etl 'nightly'", "state": "Success", "message": "all well", "facts": [],
        "tiles": [], "counts": {}, "graph": "<svg></svg>", "path": None,
        "failures": FailureReport("etl", "nightly", 3), "held_back": {}, "notes": [],
        "contents": NOTHING,
    }  # fmt: skip
    return Report(**{**known, **more})


def failed(slug, message="ValueError: no", **more):
    return Failure(slug, message, (1, 1), "tcp://10.0.0.1:33", **more)


class Words(HTMLParser):
    """The words of a page, and the elements and attributes that a browser would find in it."""

    def __init__(self, text):
        super().__init__()
        self.words, self.tags, self.names, self._skips = [], [], set(), False
        self.feed(text)
        self.text = re.sub(r"\s+", " ", " ".join(self.words))

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.names |= {name for name, _ in attrs}
        self._skips = tag in ("script", "style")

    def handle_endtag(self, tag):
        self._skips = False

    def handle_data(self, data):
        if not self._skips:
            self.words.append(data)


# --- failures -----------------------------------------------------------------------------------


def test_failures_come_before_all_else_and_name_what_did_not_run_because_of_them():
    report = FailureReport(
        "etl", "nightly", 5, [failed("clean", traceback="Traceback: here", logged=["so far"])],
        [NotRun("load", "trigger all_successful: 1 of 1"), NotRun("stray", "trigger x: no", True)],
    )  # fmt: skip
    told = Words(page(a_report(failures=report, held_back={"clean": ["load"]}))).text
    assert told.index("Failures") < told.index("Graph")
    assert (
        "1 of 5 task runs failed, 1 did not run because of it, 1 did not run for another reason."
        in told
    )
    assert "Not run because of that: load ." in told
    assert "Not run: stray (trigger x: no)." in told
    assert "Traceback: here" in told
    assert "so far" in told


def test_what_failed_alike_is_told_once():
    runs = [failed(f"clean[{n}]") for n in range(12)] + [failed("clean[12]", "OSError: other")]
    told = Words(sections.failures(FailureReport("etl", "x", 20, runs), {})).text
    assert told.count("ValueError: no") == 1
    assert "11 more failed alike: clean[1] , clean[2] , " in told
    assert "clean[8] and 3 more." in told
    assert told.count("OSError: other") == 1


def test_messages_that_differ_in_their_numbers_are_alike():
    runs = [failed(f"clean[{n}]", f"KeyError: row {n * 7}") for n in range(3)]
    told = Words(sections.failures(FailureReport("etl", "x", 3, runs), {})).text
    assert "clean[0] KeyError: row 0" in told
    assert "2 more failed alike: clean[1] , clean[2] ." in told


def test_of_many_failures_the_first_tracebacks_are_seen_at_once():
    runs = [failed(f"task-{n}", traceback="Traceback") for n in range(5)]
    told = sections.failures(FailureReport("etl", "x", 5, runs), {})
    assert (told.count("<details open>"), told.count("<details>")) == (3, 2)


def test_what_is_not_told_at_length_is_named():
    runs = [failed(f"task-{n}", f"ValueError: {n}") for n in range(23)]
    told = Words(sections.failures(FailureReport("etl", "x", 23, runs), {})).text
    assert "Failed as well: task-20 , task-21 , task-22 ." in told


def test_without_a_failure_nothing_is_said_of_any():
    assert "Failures" not in Words(page(a_report())).text


def test_a_run_that_succeeded_tells_of_what_failed_in_it():
    told = page(a_report(failures=FailureReport("etl", "x", 2, [failed("optional")])))
    assert "1 of 2 task runs failed." in Words(told).text


# --- the critical path --------------------------------------------------------------------------


def a_step(slug, began, **parts):
    return Step(slug, slug, began, began + sum(parts.values()), *Spent(**parts))


def test_of_each_step_there_is_what_its_time_went_to():
    steps = [a_step("load", 0.0, running=1.0, queued=0.5), a_step("clean", 1.5, delayed=2.0)]
    told = sections.critical_path(CriticalPath(steps, 3.5, {}))
    text = Words(told).text
    assert "2 steps in 3.5 s, of which 2.0 s waiting for a retry or an approval" in text
    assert "load 0 ms 1.5 s 1.0 s 500 ms" in text.replace("0.5 s", "500 ms")
    assert re.findall(r'class="(\w+)" style="flex:([\d.]+)', told)[3:] == [
        ("running", "0.6667"), ("queued", "0.3333"), ("delayed", "1.0000"),
    ]  # fmt: skip


def test_a_run_of_no_time_has_a_path():
    told = sections.critical_path(CriticalPath([a_step("load", 0.0)], 0.0, {}))
    assert "<p>1 step in 0 ms</p>" in told
    assert "Nothing ran." in sections.critical_path(CriticalPath([], 0.0, {}))


def test_of_very_many_steps_the_longest_are_told():
    steps = [a_step(f"link[{n}]", n, running=0.001 * n) for n in range(700)]
    text = Words(sections.critical_path(CriticalPath(steps, 700.0, {}))).text
    assert "link[699]" in text
    assert "link[199]" not in text
    assert "200 shorter steps are not shown." in text


# --- what a browser may do ----------------------------------------------------------------------


def policy_of(text):
    (found,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)
    return dict(part.strip().split(" ", 1) for part in found.split(";"))


def test_it_may_run_its_own_script_and_nothing_else():
    text = page(a_report())
    policy = policy_of(text)
    script = text.rpartition("<script>")[2].partition("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy == {
        "default-src": "'none'",
        "script-src": f"'sha256-{digest}'",
        "style-src": "'unsafe-inline'",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    # Before anything that it is about.
    assert text.index("Content-Security-Policy") < text.index("<title>")


@pytest.mark.parametrize("is_evil", [False, True])
def test_no_text_becomes_an_element_or_an_attribute_wherever_it_stands(is_evil):
    text = EVIL if is_evil else "text"
    report = FailureReport(
        text, text, 5,
        [failed(text, text, traceback=text, logged=[text], name=text, inputs={text: text})],
        [NotRun(text, text)],
    )  # fmt: skip
    path = CriticalPath([a_step(text, 0.0, running=1.0)], 1.0, {})
    contents = {**NOTHING, "names": ["<!-- </script> \u2028"], "texts": ["]]> <script>"]}
    whole = page(
        a_report(
            title=text, message=text, facts=[(text, text)], tiles=[Tile(text, text, text)],
            path=path, failures=report, held_back={text: [text]}, notes=[text], contents=contents,
        )
    )  # fmt: skip
    found = Words(whole)
    assert found.tags.count("script") == 2
    assert "img" not in found.tags
    assert not [name for name in found.names if name.startswith("on")]
    assert "<!--" not in whole
    assert not re.findall("[\x00-\x08\x0b-\x1f\x7f\u2028\ud800-\udfff]", whole)
    whole.encode()

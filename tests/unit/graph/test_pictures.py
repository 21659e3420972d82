import sys
import types
from xml.etree import ElementTree

import pytest

from dask_taskrunner import Flow, Parameter, TaskRunnerWarning, task, triggers


@task
def extract(url): ...


@task
def clean(rows, threshold): ...


@task(trigger=triggers.all_finished)
def notify(report): ...


@pytest.fixture
def flow():
    with Flow("etl") as flow:
        rows = extract(Parameter("url", default="https://example.org/a-rather-long-name/data.csv"))
        cleaned = [clean(rows, Parameter("low")), *(clean(rows, n) for n in range(4))]
        notify(cleaned, upstream_tasks=[rows])
    return flow


@pytest.fixture
def graphviz(monkeypatch):
    """A Graphviz that writes down what it is to draw."""
    module = types.ModuleType("graphviz")

    class Source:
        def __init__(self, text):
            self.text = text

        def pipe(self, format):
            return f"{format}: {self.text}".encode()

    module.Source = Source
    monkeypatch.setitem(sys.modules, "graphviz", module)
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")


@pytest.fixture(params=["no program", "no package"])
def no_graphviz(request, monkeypatch):
    which = None if request.param == "no program" else "/usr/bin/dot"
    monkeypatch.setattr("shutil.which", lambda name: which)
    monkeypatch.setitem(sys.modules, "graphviz", None)


def test_the_text_has_a_line_for_each_kind_of_task_further_in_than_what_it_waits_for(flow):
    assert str(flow.visualize()).splitlines() == [
        "flow 'etl'",
        "  url                          (parameter, default 'https://example.org/a-rather-long-na...)",
        "  low                          (parameter)",
        "    extract                    <- url=url *",
        "      clean                    <- rows=extract, threshold=low *",
        "      clean-2 ... clean-5 (4)  <- rows=extract *",
        (
            "        notify                 "
            "<- report=clean ... clean-5 (5), after extract [all_finished]"
        ),
        "* decides the flow's state",
    ]


def test_an_empty_flow_has_a_picture():
    assert str(Flow("empty").visualize()) == "flow 'empty'"


def test_a_trigger_of_the_flows_defaults_is_shown():
    with Flow("etl", task_defaults={"trigger": triggers.any_failed}) as flow:
        extract("x")
    assert "[any_failed] *" in str(flow.visualize())


def test_a_long_default_of_many_lines_stays_on_one(flow):
    with Flow("etl") as flow:
        Parameter("rows", default=type("Rows", (), {"__repr__": lambda self: "a\n  b\n"})())
    assert str(flow.visualize()) == "flow 'etl'\n  rows  (parameter, default a b)"


def test_nothing_is_printed(flow, capsys):
    picture = flow.visualize()
    assert repr(picture) == str(picture) == picture.text
    assert capsys.readouterr().out == ""


def test_the_picture_is_written_in_the_language_of_graphviz():
    with Flow('the "etl"\\') as flow:
        clean(extract(Parameter("url")), 5, upstream_tasks=flow.tasks)
    assert flow.visualize().dot == (
        'digraph "the \\"etl\\"\\\\" {\n'
        "  rankdir=LR\n"
        "  node [shape=box, style=rounded]\n"
        '  n0 [label="url (parameter)", shape=ellipse]\n'
        '  n1 [label="extract"]\n'
        '  n2 [label="clean *"]\n'
        '  n0 -> n1 [label="url"]\n'
        '  n1 -> n2 [label="rows"]\n'
        "  n0 -> n2 [style=dashed]\n"
        "  n1 -> n2 [style=dashed]\n"
        "}\n"
    )


def test_it_is_written_in_the_language_of_mermaid():
    with Flow("etl") as flow:
        clean(extract(Parameter("url", default='a "#1"')), 5, upstream_tasks=flow.tasks)
    assert flow.visualize().mermaid == (
        "flowchart LR\n"
        "  n0([\"url (parameter, default 'a #34;#35;1#34;')\"])\n"
        '  n1["extract"]\n'
        '  n2["clean *"]\n'
        '  n0 -->|"url"| n1\n'
        '  n1 -->|"rows"| n2\n'
        "  n0 -.-> n2\n"
        "  n1 -.-> n2\n"
    )


def test_a_notebook_shows_a_picture_and_elsewhere_it_is_an_image_or_text(flow):
    shown = flow.visualize()._repr_mimebundle_()
    assert '<img alt="flow &#x27;etl&#x27;"' in shown["text/html"]
    ElementTree.fromstring(shown["image/svg+xml"])
    assert shown["text/plain"] == flow.visualize().text


@pytest.mark.parametrize(
    ("filename", "format", "written", "begin"),
    [
        ("etl.png", None, "etl.png", "png: digraph"),
        ("etl", "pdf", "etl.pdf", "pdf: digraph"),
        ("etl", None, "etl.svg", "<svg xmlns="),
        ("etl.mmd", None, "etl.mmd", "flowchart LR"),
        ("etl.txt", None, "etl.txt", "flow 'etl'"),
        ("etl.dot", None, "etl.dot", "digraph"),
        ("etl.gv", None, "etl.gv", "digraph"),
        ("etl.data", "txt", "etl.data", "flow 'etl'"),
    ],
)
def test_a_file_gets_the_format_of_its_name(
    flow, graphviz, tmp_path, filename, format, written, begin
):
    flow.visualize(str(tmp_path / filename), format)
    assert [path.name for path in tmp_path.iterdir()] == [written]
    assert (tmp_path / written).read_text().startswith(begin)


def test_what_needs_graphviz_is_svg_without_it_and_a_warning_says_so(flow, no_graphviz, tmp_path):
    with pytest.warns(TaskRunnerWarning, match=r"SVG was written, to '.*etl\.svg'") as caught:
        flow.visualize(str(tmp_path / "etl.png"))
    assert caught[0].filename == __file__
    (path,) = tmp_path.iterdir()
    assert path.name == "etl.svg"
    assert path.read_text().startswith("<svg")


def test_without_graphviz_its_language_can_be_written(flow, no_graphviz, tmp_path):
    flow.visualize(str(tmp_path / "etl.dot"))
    assert (tmp_path / "etl.dot").read_text() == flow.visualize().dot

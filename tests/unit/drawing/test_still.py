"""A picture that stays: an image, in pages that take most things out of what others wrote."""

from __future__ import annotations

import base64
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest

from dask_taskrunner.drawing.model import Drawing, DrawnEdge, DrawnNode
from dask_taskrunner.drawing.still import still

NODES = [
    DrawnNode("load", "load", state="Success", tip="load: Success\non tcp://10.0.0.7:4711"),
    DrawnNode("fit", "fit", state="Failed", tip="fit: <Failed> \x1b[31mred\x07"),
]
DRAWING = Drawing("flow 'etl'", "etl", NODES, [DrawnEdge(0, 1, "x")])


class Elements(HTMLParser):
    """The elements of a page with their attributes, and its texts."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.texts.append(data)

    def of(self, tag):
        return [attributes for name, attributes in self.found if name == tag]


@pytest.fixture
def kept():
    return still(DRAWING)


@pytest.fixture
def page(kept):
    return Elements(kept.html)


def test_it_is_an_image_of_the_same_picture(kept, page):
    (image,) = page.of("img")
    kind, _, data = image["src"].partition(",")
    assert kind == "data:image/svg+xml;base64"
    assert base64.b64decode(data).decode() == kept.svg
    picture = ElementTree.fromstring(kept.svg)
    assert image["width"] == picture.get("width")
    # Where there is less room it is smaller, and not squeezed.
    assert "height" not in image
    assert image["alt"] == "flow 'etl'"


def test_nothing_is_left_to_be_read_where_elements_are_taken_out(page):
    assert page.texts == []
    assert {name for name, _ in page.found} == {"img", "map", "area"}


def test_who_points_at_a_node_is_told_what_there_is_to_tell(kept, page):
    (image,), (named,), areas = page.of("img"), page.of("map"), page.of("area")
    assert image["usemap"] == f"#{named['name']}"
    assert [area["title"] for area in areas] == [NODES[0].tip, r"fit: <Failed> red\x07"]
    boxes = ElementTree.fromstring(kept.svg).iter("{http://www.w3.org/2000/svg}rect")
    for box, area in zip(boxes, areas, strict=True):
        x, y, right, bottom = map(int, area["coords"].split(","))
        expected = [float(box.get(name)) for name in ("x", "y", "width", "height")]
        assert [x, y, right - x, bottom - y] == pytest.approx(expected, abs=1)


def test_two_pictures_of_a_page_do_not_tell_of_each_other(kept):
    other = still(DRAWING._replace(nodes=[NODES[0]._replace(tip="later"), NODES[1]]))
    first, second = (re.findall('usemap="(.*?)"', each.html) for each in (kept, other))
    assert first != second

"""The picture of a graph, and what is one node in it."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from dask_taskrunner.drawing.gathering import ALIKE, Gathering
from dask_taskrunner.drawing.model import Drawing, DrawnEdge, DrawnNode
from dask_taskrunner.drawing.svg import as_svg, layout_of
from dask_taskrunner.states import COLORS

SVG = "{http://www.w3.org/2000/svg}"


def drawn(*nodes, edges=()):
    return Drawing("flow 'etl'", "etl", nodes, [DrawnEdge(*edge) for edge in edges])


def elements(drawing, kind, **options):
    return list(ElementTree.fromstring(as_svg(drawing, **options)).iter(f"{SVG}{kind}"))


def fan(count, state="Success"):
    nodes = [DrawnNode("load", "load"), *(DrawnNode(f"fit-{n}", "fit", state=state)
                                          for n in range(count))]  # fmt: skip
    return drawn(*nodes, edges=[(0, n, "x") for n in range(1, count + 1)])


@pytest.mark.parametrize("state", [name for name in COLORS if name != "State"])
def test_a_node_has_the_color_of_its_state(state):
    node = DrawnNode("a", "a", state=state, tip="it is so")
    (box,) = elements(drawn(node), "rect")
    assert box.get("fill") == COLORS[state]
    assert (box.get("data-slug"), box.get("data-state")) == ("a", state)
    assert [title.text for title in box] == ["it is so"]


def test_what_has_no_state_looks_like_none_of_them():
    (box,) = elements(drawn(DrawnNode("a", "a")), "rect")
    assert box.get("fill") not in COLORS.values()
    assert box.get("data-state") is None


def test_all_text_is_escaped_and_long_names_are_cut():
    name = '<a>&"' + "b" * 60
    picture = drawn(DrawnNode(name, name, state="Failed", tip="<i>", note="&"))
    (box,) = elements(picture, "rect")
    assert box.get("data-slug") == name
    assert box[0].text == "<i>"
    assert [text.text for text in elements(picture, "text")] == [f"{name[:16]}…{name[-11:]}", "&"]


def test_of_a_long_name_the_number_at_its_end_stays():
    names = [f"enrich_with_customer_segments_and_regions-{n}" for n in range(30)]
    texts = [text.text for text in elements(drawn(*(DrawnNode(n, n) for n in names)), "text")]
    assert len(set(texts)) == 30
    assert texts[7] == "enrich_with_cust…d_regions-7"


def test_control_codes_make_no_broken_file():
    node = DrawnNode("a\x1b[31m", "a", tip="bell\x07 \x1b]0;title\x07\x00", note="\r")
    assert [title.text for title in elements(drawn(node), "title")] == [r"bell\x07 \x00"]
    assert [text.text for text in elements(drawn(node), "text")] == ["a", r"\r"]


def test_many_have_a_bar_on_which_even_one_is_seen():
    counts = {"Failed": 1, "Success": 9999}
    node = DrawnNode("fit", "fit", state="Pending", counts=counts, note="10,000/10,000",
                     has_line=True, is_many=True)  # fmt: skip
    _, ground, failed, well = elements(drawn(node), "rect")
    assert (failed.get("fill"), well.get("fill")) == (COLORS["Failed"], COLORS["Success"])
    assert float(failed.get("width")) >= 1.9
    total = float(failed.get("width")) + float(well.get("width"))
    assert total == pytest.approx(float(ground.get("width")) - 2, abs=0.2)


def test_what_decides_has_a_stronger_frame_and_says_so():
    nodes = [DrawnNode("a", "a"), DrawnNode("b", "b", "[any_failed]", decides=True)]
    one, other = elements(drawn(*nodes), "rect")
    assert (one.get("stroke-width"), one[0].text) == (None, "a")
    assert float(other.get("stroke-width")) > 1
    assert other[0].text == "b [any_failed]\ndecides the flow's state"


def test_an_edge_that_only_orders_is_dashed():
    nodes = [DrawnNode(name, name) for name in "abc"]
    picture = drawn(*nodes, edges=[(0, 1, "x"), (1, 2), (0, 2, "y"), (0, 2)])
    dashed = [path.get("stroke-dasharray") is not None for path in elements(picture, "path")]
    # Between a and c something is passed, too.
    assert dashed == [False, True, False]


def test_in_brief_nodes_tell_nothing_and_take_less():
    picture = fan(10)
    brief = as_svg(picture, is_brief=True)
    assert "<title>" not in brief
    assert len(brief) < 0.8 * len(as_svg(picture))


def test_it_looks_the_same_in_every_page():
    node = DrawnNode("fit", "fit", state="Running", counts={"Success": 1}, has_line=True,
                     is_many=True)  # fmt: skip
    for picture in (fan(1), fan(1, "Pending"), drawn(node)):
        svg = as_svg(picture)
        assert "style" not in svg
        assert "currentColor" not in svg
        # All text has a color of the picture, for it has its own ground.
        *_, texts = ElementTree.fromstring(svg)
        assert texts.get("fill") == "#000000"
        assert {text.get("fill") for text in texts.iter(f"{SVG}text")} <= {None, "#ffffff"}


def test_only_more_than_a_dozen_that_look_alike_are_one():
    assert len(Gathering(fan(ALIKE))(fan(ALIKE)).nodes) == ALIKE + 1
    picture = Gathering(fan(ALIKE + 1))(fan(ALIKE + 1))
    assert [node.slug for node in picture.nodes] == ["load", "fit x 13"]
    assert picture.edges == [DrawnEdge(0, 1, "x")]
    assert picture.nodes[1].state == "Success"


def test_one_of_many_names_those_that_failed():
    before, after = fan(20, "Pending"), fan(20)
    nodes = [*after.nodes]
    for n in (3, 5):
        nodes[n] = nodes[n]._replace(state="Failed")
    many = Gathering(before)(after._replace(nodes=nodes)).nodes[1]
    assert many.tip == "fit-0 ... fit-19: 18 Success, 2 Failed\nfailed: fit-2, fit-4"
    assert many.counts == {"Success": 18, "Failed": 2}
    assert many.state is None


def test_those_that_wait_for_different_things_are_not_alike():
    nodes = [DrawnNode(name, name) for name in "ab"]
    nodes += [DrawnNode(f"fit-{n}", "fit") for n in range(26)]
    edges = [(n % 2, n + 2, "x") for n in range(26)]
    picture = drawn(*nodes, edges=edges)
    assert [node.slug for node in Gathering(picture)(picture).nodes[2:]] == ["fit x 13"] * 2


def test_what_has_children_is_one_by_itself():
    nodes = [DrawnNode(f"fit-{n}", "fit", has_line=True, is_many=True) for n in range(20)]
    assert len(Gathering(drawn(*nodes))(drawn(*nodes)).nodes) == 20


def test_a_layout_stays_while_states_change():
    before = drawn(DrawnNode("a", "a", state="Pending", has_line=True))
    after = drawn(DrawnNode("a", "a", state="Retrying", note="due in 25.3 s", has_line=True))
    assert layout_of(before) == layout_of(after)

"""Pieces of HTML, and the live block made of them. They know plain data, and no notebook.

Notebooks are light or dark, and style what they show in their own way: all inherits the page's
colors but for the states', and every piece brings the little style that it needs. Nothing is
loaded, and nothing is executed. All text that is somebody else's is escaped here.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from dask_taskrunner.control_codes import harmless
from dask_taskrunner.drawing.colors import color_of, readable_on
from dask_taskrunner.short_texts import shorten_name
from dask_taskrunner.view.block import Title, choose, how_far, remarks, time_taken
from dask_taskrunner.view.tally import Group, Tally
from dask_taskrunner.view.text import in_order

#: So many lines has a block at most.
MOST_GROUPS: Final = 40
#: Notebooks draw tables to the right, in stripes, and in a smaller type.
_TABLE: Final = "border-collapse:collapse;border:none;margin:.2em 0;font-size:inherit"
_ROW: Final = "background:transparent;border:none"
_CELL: Final = (
    "text-align:{align};padding:.1em 1em .1em 0;border:none;vertical-align:top;"
    "max-width:60em;white-space:{space};font-variant-numeric:tabular-nums"
)
_PRE: Final = (
    "margin:.2em 0;padding:0;background:transparent;color:inherit;white-space:pre;overflow:auto;"
    "max-height:40em;line-height:1.35;font-size:.92em"
)


def escaped(text: object) -> str:
    """Return a text as HTML shows it, and control codes as what they are."""
    return html.escape(harmless(str(text)))


def box(*parts: str) -> str:
    """Return what stands one below the other."""
    inside = "".join(f"<div>{part}</div>" for part in parts if part)
    return f'<div style="line-height:1.5">{inside}</div>'


def quiet(text: str) -> str:
    """Return what is said by the way; `text` is HTML."""
    return f'<span style="opacity:.65">{text}</span>' if text else ""


def together(text: str) -> str:
    """Return what stands on one line; `text` is HTML."""
    return f'<span style="white-space:nowrap">{text}</span>'


def mono(text: object) -> str:
    """Return code, or a name in it, within a line."""
    style = (
        "background:transparent;color:inherit;padding:0;font-size:.95em;"
        "white-space:pre-wrap;overflow-wrap:anywhere"
    )
    return f'<code style="{style}">{escaped(text)}</code>'


def pre(text: str) -> str:
    """Return lines as they are; long ones are scrolled."""
    return f'<pre style="{_PRE}">{escaped(text)}</pre>'


def scrolled(picture: str) -> str:
    """Return a picture that may be larger than there is room for."""
    return f'<div style="overflow:auto;max-height:36em;margin:.3em 0">{picture}</div>'


def fitted(svg: str) -> str:
    """Return a picture as large as there is room: where it is drawn anew nobody can scroll it."""
    style = "max-width:100%;height:auto;max-height:36em"
    look = f'style="{style}" preserveAspectRatio="xMinYMin"'
    return f'<div style="margin:.3em 0">{svg.replace("<svg ", f"<svg {look} ", 1)}</div>'


def fold(summary: str, inside: str) -> str:
    """Return what is shown on a click; both are HTML."""
    style = "cursor:pointer;opacity:.75"
    return f'<details><summary style="{style}">{summary}</summary>{inside}</details>'


def table(rows: Iterable[Sequence[str]], align: str = "") -> str:
    """Return rows of cells, which are HTML; `align` has an ``r`` for each column on the right."""
    lines = []
    for row in rows:
        cells = "".join(
            f'<td style="{_cell(align[number : number + 1])}">{cell}</td>'
            for number, cell in enumerate(row)
        )
        lines.append(f'<tr style="{_ROW}">{cells}</tr>')
    return f'<table style="{_TABLE}"><tbody>{"".join(lines)}</tbody></table>' if lines else ""


def _cell(align: str) -> str:
    if align == "r":
        return _CELL.format(align="right", space="nowrap")
    return _CELL.format(align="left", space="nowrap" if align == "l" else "normal")


# --- states --------------------------------------------------------------------------------------


def badge(state: str, color: str | None = None) -> str:
    """Return the name of a state on its color; by default the color that its name has."""
    color = color or color_of(state)
    style = (
        f"background:{color};color:{readable_on(color)};border-radius:.3em;"
        "padding:.05em .45em;font-size:.9em;white-space:nowrap"
    )
    return f'<span style="{style}">{escaped(state)}</span>'


def dot(state: str) -> str:
    """Return a small square of a state's color; text in it could not be read on every page."""
    return f'<span style="color:{color_of(state)}">■</span>'


def bar(counts: Mapping[str, int]) -> str:
    """Return a bar that shows the share of each state; even one of thousands is to be seen."""
    parts = []
    for state, count in in_order(counts):
        look = (
            "background:currentColor;opacity:.2"
            if state == "Pending"
            else f"background:{color_of(state)}"
        )
        parts.append(f'<span style="flex:{count} 0 0;min-width:3px;{look}"></span>')
    style = (
        "display:inline-flex;width:14em;height:.55em;border-radius:.3em;overflow:hidden;"
        "vertical-align:middle"
    )
    return f'<span style="{style}">{"".join(parts)}</span>'


# --- the block -----------------------------------------------------------------------------------


def block(
    tally: Tally, title: Title, now: float, graph: str = "", *, most_groups: int = MOST_GROUPS
) -> str:
    """Return the block of a flow run.

    Parameters
    ----------
    tally : Tally
        How far the run is.
    title : Title
        What runs, and where.
    now : float
        In epoch seconds.
    graph : str
        A picture, which is shown below the first line.
    most_groups : int
        So many lines at most; what is under way or failed goes before what has finished.
    """
    groups = list(tally.groups.values())
    shown = choose(groups, most_groups)
    hidden = len(groups) - len(shown)
    return box(
        _first_line(title),
        graph,
        table([_group_row(group, now) for group in shown], "llrrw"),
        quiet(f"and {hidden} more") if hidden else "",
        last_line(tally, now),
    )


def _first_line(title: Title) -> str:
    more = f" on {escaped(title.where)}" if title.where else ""
    more += f": {escaped(title.told)}" if title.told else ""
    return f"<b>{escaped(title.flow_name)} {escaped(repr(title.run_name))}</b>{quiet(more)}"


def _group_row(group: Group, now: float) -> list[str]:
    said = [
        together(quiet(escaped(text)) if state is None else f"{dot(state)} {escaped(text)}")
        for text, state in remarks(group, now)
    ]
    return [
        _name_cell(group.name),
        bar(group.counts),
        f"{group.finished}/{group.total}",
        time_taken(group, now),
        ", ".join(said),
    ]


def _name_cell(name: str) -> str:
    short = shorten_name(name)
    if short == name:
        return escaped(name)
    return f'<span title="{escaped(name)}">{escaped(short)}</span>'


def last_line(tally: Tally, now: float) -> str:
    """Return how far the whole run is, or how it ended."""
    line = escaped(how_far(tally, now))
    if not tally.is_over:
        return line
    if tally.message:
        # A success that holds failures must not look as if all were well.
        has_failed = tally.failed and tally.state == "Success"
        line += f": {dot('Failed') if has_failed else ''} {escaped(tally.message)}"
    return f"{dot(tally.state)} {line}"

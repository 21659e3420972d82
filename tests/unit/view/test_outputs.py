"""The notebook's side: when this process is a kernel, and when an output is drawn again."""

from __future__ import annotations

import sys
import threading
from types import ModuleType

import pytest
from fakes.fake_notebook import FakeShell
from fakes.gates import eventually

from dask_taskrunner.view import notebook
from dask_taskrunner.view.notebook import Output, current_cell, find_shell, keep_drawing


@pytest.fixture
def shell():
    return FakeShell()


class Drawn:
    """A picture that a test changes."""

    def __init__(self) -> None:
        self.text = "first"

    def __call__(self):
        return {"text/html": f"<b>{self.text}</b>", "text/plain": self.text}


def drawn(shell):
    return [(message.plain, message.is_update) for message in shell.messages]


def test_a_kernel_is_found(shell, monkeypatch):
    shell.install(monkeypatch)
    assert find_shell() is shell
    shell.cell = "cell 7"
    assert current_cell(shell) == "cell 7"


def test_a_terminal_is_no_notebook(shell, monkeypatch):
    del shell.kernel
    shell.install(monkeypatch)
    assert find_shell() is None


@pytest.mark.parametrize("attributes", [{}, {"get_ipython": lambda: None}])
def test_where_ipython_is_only_imported_there_is_no_notebook(monkeypatch, attributes):
    module = ModuleType("IPython")
    vars(module).update(attributes)
    monkeypatch.setitem(sys.modules, "IPython", module)
    assert find_shell() is None


def test_where_nobody_imported_ipython_there_is_no_notebook(monkeypatch):
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    assert find_shell() is None
    assert "IPython" not in sys.modules


def test_an_output_is_drawn_again_where_that_changes_anything(shell):
    picture = Drawn()
    output = Output("id", picture)
    output.show(shell)
    output.update()
    picture.text = "second"
    output.update()
    output.update()
    assert drawn(shell) == [("first", False), ("second", True)]
    assert {message.id for message in shell.messages} == {"id"}
    assert shell.messages[1].html == "<b>second</b>"


def test_what_is_not_shown_anywhere_yet_is_not_drawn_again(shell):
    picture = Drawn()
    output = Output("id", picture)
    output.update()
    output.show(shell)
    assert drawn(shell) == [("first", False)]


def test_an_output_is_drawn_until_the_end_and_its_last_form_stays(shell, monkeypatch):
    monkeypatch.setattr(notebook, "UPDATES_PER_SECOND", 1000)
    picture, ended = Drawn(), threading.Event()
    output = Output("id", picture)
    thread = keep_drawing(output, ended)
    output.show(shell)
    picture.text = "second"
    assert eventually(lambda: len(shell.messages) == 2)
    picture.text = "last"
    ended.set()
    thread.join()
    assert drawn(shell)[-1] == ("last", True)
    assert thread.daemon


def test_what_has_ended_is_drawn_at_once(shell):
    picture, ended = Drawn(), threading.Event()
    output = Output("id", picture)
    output.show(shell)
    picture.text = "last"
    ended.set()
    keep_drawing(output, ended).join()
    assert drawn(shell) == [("first", False), ("last", True)]


def test_an_older_picture_is_never_drawn_over_a_newer_one(shell):
    """While one thread shows a picture, another that has a newer one waits."""
    looked, may_draw = threading.Event(), threading.Event()
    numbers = iter("12")

    def picture():
        number = next(numbers)
        if number == "1":
            looked.set()
            assert may_draw.wait(10)
        return {"text/html": number, "text/plain": number}

    output = Output("id", picture)
    showing = threading.Thread(target=output.show, args=(shell,))
    showing.start()
    assert looked.wait(10)
    updating = threading.Thread(target=output.update)
    updating.start()
    may_draw.set()
    showing.join()
    updating.join()
    assert drawn(shell) == [("1", False), ("2", True)]


def test_outputs_that_a_cell_captures_go_where_they_were_shown(shell):
    picture, captured = Drawn(), FakeShell()
    output = Output("id", picture)
    output.show(shell)
    publisher, shell.display_pub = shell.display_pub, captured
    picture.text = "second"
    output.update()
    shell.display_pub = publisher
    assert captured.messages == []
    assert drawn(shell) == [("first", False), ("second", True)]


def test_no_more_than_four_updates_a_second_are_drawn():
    assert notebook.UPDATES_PER_SECOND == 4

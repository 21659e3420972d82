"""Whoever writes for somebody who does not read any more goes on, and so does the exit code."""

from __future__ import annotations

import os

import pytest

from dask_taskrunner.view.pipes import Pipe


@pytest.fixture
def ends():
    """A pipe as the system has it: who reads, and a stream for whoever writes."""
    reader, writer = os.pipe()
    with os.fdopen(reader) as read, os.fdopen(writer, "w") as write:
        yield read, write


def test_what_is_written_arrives(ends):
    read, write = ends
    pipe = Pipe(write)
    assert pipe.write("line\n") == 5
    pipe.flush()
    assert read.readline() == "line\n"
    assert not pipe.is_broken


def test_where_nobody_reads_it_is_lost_and_nothing_is_raised(ends):
    read, write = ends
    read.close()
    pipe = Pipe(write)
    assert pipe.write("x" * 100_000) == 100_000
    pipe.flush()
    assert pipe.is_broken
    assert pipe.write("more") == 4


def test_what_has_been_buffered_does_not_fail_when_the_stream_is_closed(ends):
    read, write = ends
    read.close()
    pipe = Pipe(write)
    pipe.write("line\n")
    pipe.let_go()
    write.close()
    assert pipe.is_broken


def test_a_pipe_that_is_read_is_left_as_it_is(ends):
    read, write = ends
    pipe = Pipe(write)
    pipe.write("line\n")
    pipe.let_go()
    write.close()
    assert read.read() == "line\n"


def test_it_says_of_itself_what_its_stream_does(ends):
    _, write = ends
    pipe = Pipe(write)
    assert not pipe.isatty()
    assert pipe.encoding == write.encoding
    assert pipe.fileno() == write.fileno()
    with pytest.raises(AttributeError):
        pipe.rich_proxied_file  # noqa: B018 (rich asks for it)

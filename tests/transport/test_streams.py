"""Ends of relayed streams: what is read, what is written, and how they end."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from sidecall.transport.loop import Poller
from sidecall.transport.streams import Sink, Source, own_description


def test_a_source_reads_only_what_is_allowed() -> None:
    """A source stops at its allowance and goes on when it gets more, to the end."""
    loop, got = Poller(), bytearray()
    ended: list[OSError | None] = []
    readable, writable = os.pipe()
    os.write(writable, b"x" * 100)
    os.close(writable)
    source = Source(loop, readable, got.extend, ended.append, 30)
    source.allow(50)
    loop.run_once()
    loop.run_once()
    assert len(got) == 50
    source.allow(1000)
    while not ended:
        loop.run_once()
    assert (len(got), source.closed, ended) == (100, True, [None])


@pytest.mark.parametrize("nonblocking", [True, False])
def test_a_sink_writes_everything_in_order(nonblocking: bool) -> None:
    """A sink whose pipe is full goes on as it empties, and closes at the end."""
    loop = Poller()
    readable, writable = os.pipe()
    os.set_blocking(writable, not nonblocking)
    written: list[int] = []
    closed: list[OSError | None] = []
    sink = Sink(loop, writable, written.append, closed.append, nonblocking=nonblocking)
    data = os.urandom(200_000)
    sink.write(data)
    sink.end()
    with ThreadPoolExecutor(1) as pool, open(readable, "rb") as reader:
        got = pool.submit(reader.read)
        while not sink.closed:
            loop.run_once()
        assert (got.result(), sum(written), closed) == (data, len(data), [None])


def test_a_sink_reports_a_reader_that_has_gone() -> None:
    """EPIPE is reported once, and what follows is dropped."""
    readable, writable = os.pipe()
    os.close(readable)
    errors: list[OSError | None] = []
    sink = Sink(Poller(), writable, lambda _: None, errors.append, nonblocking=True)
    sink.write(b"x")
    sink.write(b"y")
    assert [type(error) for error in errors] == [BrokenPipeError]
    assert sink.closed


def test_a_shared_description_keeps_its_flags() -> None:
    """Reading an inherited pipe without blocking does not make it non-blocking for others."""
    readable, writable = os.pipe()
    own, never_blocks = own_description(readable, os.O_RDONLY)
    assert never_blocks
    assert os.get_blocking(readable)
    assert not os.get_blocking(own)
    for fd in (readable, writable, own):
        os.close(fd)

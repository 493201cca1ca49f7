"""Logs stay bounded, also while a process writes to them."""

import os
from pathlib import Path

from chappe_local import logs


def test_log_is_cut_while_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "part.log"
    descriptor = logs.open_log(path)
    os.write(descriptor, b"old line\n" * 20)
    assert not logs.rotate(path, max_bytes=1000)
    assert logs.rotate(path, max_bytes=100)
    os.write(descriptor, b"new line\n")
    os.close(descriptor)
    assert path.read_text() == "new line\n"
    assert (tmp_path / "part.log.1").read_text().count("old line") == 20
    assert path.stat().st_mode & 0o777 == 0o600


def test_tail_gives_the_last_lines_after_an_offset(tmp_path: Path) -> None:
    path = tmp_path / "part.log"
    assert logs.tail(path, 5) == []
    path.write_bytes(b"one\ntwo\nthree\n\xff\n")
    assert logs.tail(path, 2) == ["three", "\ufffd"]
    assert logs.tail(path, 9, offset=8) == ["three", "\ufffd"]
    assert logs.tail(path, 9, offset=1000) == ["one", "two", "three", "\ufffd"]


def test_follow_gives_complete_new_lines_and_survives_a_cut(tmp_path: Path) -> None:
    path = tmp_path / "part.log"
    path.write_text("before\n")
    news = logs.follow([path])
    assert next(news) is None
    with path.open("a") as file:
        file.write("whole\nhal")
    assert next(news) == (path, "whole")
    with path.open("a") as file:
        file.write("f\n")
    assert next(news) == (path, "half")
    path.write_text("cut\n")
    assert next(news) == (path, "cut")

"""The file between a request and the store."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from mlflow_caliber.flavor._spool import Spool

LIMIT = 1 << 20


@pytest.fixture
def spool(tmp_path):
    spool = Spool(tmp_path / "spool", LIMIT)
    yield spool
    spool.close()


def test_lines_come_out_in_order_and_stay_until_they_are_forgotten(spool):
    for k in range(5):
        assert spool.append(b"%d" % k)
    first = spool.peek(2)
    assert first == spool.peek(2) == [b"0", b"1"]
    spool.forget(first)
    assert spool.peek(100) == [b"2", b"3", b"4"]


def test_a_line_longer_than_the_batch_is_taken_alone(spool):
    spool.append(b"x" * 100)
    spool.append(b"y")
    assert spool.peek(10) == [b"x" * 100]


def test_an_empty_spool_takes_no_room_on_the_disk(spool):
    spool.append(b"x" * 1000)
    spool.forget(spool.peek(10))
    assert spool.peek(10) == []
    assert [file.stat().st_size for file in spool.folder.iterdir()] == [0]


def test_what_finds_no_room_is_dropped_and_counted(tmp_path):
    spool = Spool(tmp_path, 8)
    assert [spool.append(b"1234"), spool.append(b"5678"), spool.append(b"9")] == [True, False, True]
    assert spool.dropped == 1
    spool.forget(spool.peek(100))
    assert spool.append(b"5678")
    spool.close()


def test_only_its_owner_may_read_it(spool):
    spool.append(b"secret")
    assert {file.stat().st_mode & 0o077 for file in [spool.folder, *spool.folder.iterdir()]} == {0}


def test_lines_of_the_living_are_left_alone(spool):
    other = Spool(spool.folder, LIMIT)
    other.append(b"mine")
    assert list(spool.orphans()) == []
    other.close()
    assert list(spool.orphans()) == [[b"mine"]]
    assert list(spool.orphans()) == []


def test_a_clean_end_leaves_nothing(tmp_path):
    Spool(tmp_path, LIMIT).close()
    assert list(tmp_path.iterdir()) == []


def test_kill_leaves_every_line_that_was_acknowledged(spool):
    code = f"""
import sys; from pathlib import Path; from mlflow_caliber.flavor._spool import Spool
spool, k = Spool(Path({str(spool.folder)!r}), {LIMIT}), 0
while True:
    assert spool.append(b"%d" % k); print(k, flush=True); k += 1
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "0\n"
    time.sleep(0.3)
    os.kill(process.pid, signal.SIGKILL)
    acknowledged = [0, *map(int, process.communicate()[0].split())]
    (lines,) = spool.orphans()
    assert [int(line) for line in lines][: len(acknowledged)] == acknowledged
    assert len(lines) - len(acknowledged) in (0, 1)


def test_a_line_cut_off_by_death_is_no_line(spool):
    (spool.folder / "dead.jsonl").write_bytes(b"whole\nhal")
    assert list(spool.orphans()) == [[b"whole"]]


def test_a_new_file_has_its_lock_before_anybody_sees_it(tmp_path, monkeypatch):
    from mlflow_caliber.flavor import _spool

    elder, seen, lock = Spool(tmp_path, LIMIT), [], _spool._try_lock

    def look_then_lock(file):
        seen.extend(elder.orphans())
        return lock(file)

    monkeypatch.setattr(_spool, "_try_lock", look_then_lock)
    younger = Spool(tmp_path, LIMIT)
    monkeypatch.undo()
    younger.append(b"mine")
    assert seen == list(elder.orphans()) == []
    younger.close()
    assert list(elder.orphans()) == [[b"mine"]]
    elder.close()


def test_a_spool_that_never_runs_empty_starts_over_and_loses_nothing(tmp_path):
    spool, kept = Spool(tmp_path, 100), []
    for k in range(200):
        assert spool.append(b"%03d" % k)
        if k:
            lines = spool.peek(1)
            kept += lines
            spool.forget(lines)
    assert kept + spool.peek(1000) == [b"%03d" % k for k in range(200)]
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) < 200
    spool.close()


def test_half_a_line_is_taken_back(tmp_path, monkeypatch):
    spool, write = Spool(tmp_path, LIMIT), os.write
    spool.append(b"one")
    monkeypatch.setattr(os, "write", lambda file, line: write(file, line[:2]))
    assert not spool.append(b"two")
    monkeypatch.undo()
    assert spool.append(b"three")
    assert (spool.peek(100), spool.dropped) == ([b"one", b"three"], 1)
    spool.close()

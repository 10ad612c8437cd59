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

"""kill -9 in the middle of a promotion: the old champion or the new one, with its audit entry, and nothing between."""

import itertools
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="forks the processes that it kills"),
]

_numbers = itertools.count()
SUPPORT = Path(__file__).parents[1] / "support"


@pytest.fixture(params=["sqlite", "postgres"])
def database(request, tmp_path, empty_database):
    if request.param == "sqlite":
        return None
    import psycopg

    server = request.getfixturevalue("postgres")
    with psycopg.connect(server(), autocommit=True) as connection:
        name = f"killed_{next(_numbers)}"
        connection.execute(f"CREATE DATABASE {name}")
    return server(name).replace("postgresql://", "postgresql+psycopg://", 1)


@pytest.fixture
def promoters(guard, database, tmp_path):
    """A registry with two versions that pass, and a process whose children promote them in turns."""
    guarded = guard(database=database)
    name, _ = guarded.version()
    guarded.version(name=name)
    policy = tmp_path / "caliber.yaml"
    policy.write_text("gate: {targets: {champion: {rules: [{metric: caliber_brier, max: 0.3}]}}}")
    command = [sys.executable, str(SUPPORT / "promoters.py"), guarded.store.db_uri, name, str(policy)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
        yield guarded, name, parent
        parent.stdin.close()


def start(parent):
    parent.stdin.write("\n")
    parent.stdin.flush()
    return int(parent.stdout.readline())


@pytest.mark.parametrize("kills", [3, pytest.param(100, marks=pytest.mark.slow)])
def test_a_killed_promotion_leaves_the_old_or_the_new_champion_with_its_entry(promoters, kills):
    guarded, name, parent = promoters
    chance, seen, entries = random.Random(0), set(), 0
    for _ in range(kills):
        pid = start(parent)
        deadline = time.monotonic() + 60.0
        while len(guarded.ledger.entries(model=name)) < entries + 1:
            assert time.monotonic() < deadline, "the child promotes"
            time.sleep(0.01)
        time.sleep(chance.uniform(0.0, 0.2))
        os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)
        trail = guarded.ledger.entries(model=name)
        champion = guarded.world.aliases(name)["champion"]
        assert (trail[-1].action, trail[-1].version) == ("promote", champion)
        tags = guarded.world.tags(name, champion)
        assert tags["caliber_gate_status"] == "passed"
        former = trail[-1].detail["former"]
        if former not in (None, champion):  # not a renewed decision
            assert tags["caliber_previous_champion"] == guarded.world.aliases(name)["previous"] == former
        assert guarded.ledger.verify().ok
        seen.add(champion)
        entries = len(trail)
    assert kills < 10 or seen == {"1", "2"}  # kills fell into promotions of both

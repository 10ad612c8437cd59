"""The commands on a store, on a buffer of games as the article keeps it: imported, learned, undone, exported."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from commands import ok, run
from mlflow_caliber.store import Prediction, open_store

SPORTS = ["nba", "nhl"]
GAMES = 400


@pytest.fixture(scope="module")
def buffer(tmp_path_factory):
    rng = np.random.default_rng(0)
    file = tmp_path_factory.mktemp("games") / "buffer.jsonl"
    lines = [
        {"sport": SPORTS[k % 2], "pred": round(p, 4), "outcome": int(rng.random() < p**2), "ts": 1_700_000_000 + k}
        for k, p in enumerate(rng.random(GAMES).tolist())
    ]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines) + "{broken\n")
    return file


@pytest.fixture(scope="module")
def uri(tmp_path_factory):
    return f"sqlite:///{tmp_path_factory.mktemp('store')}/caliber.db"


@pytest.fixture(scope="module")
def learned(uri, buffer):
    done = ok("store", "import", buffer, "--buffer", "--model", "games", "--version", "1", "--store", uri)
    assert (done["recorded"], len(done["bad_lines"])) == (2 * GAMES, 1)
    assert done["bad_lines"][0]["number"] == GAMES + 1
    read = ok("worker", "--store", uri, "--once", "--every-outcomes", 100)
    assert read["entries"] == 2 * GAMES
    return uri


def games(uri):
    return ["--store", uri, "--model", "games"]


def test_importing_and_learning_again_changes_nothing(learned, buffer):
    again = ok("store", "import", buffer, "--buffer", "--model", "games", "--version", "1", "--store", learned)
    assert (again["recorded"], again["duplicates"]) == (0, 2 * GAMES)
    assert ok("worker", "--store", learned, "--once")["entries"] == 0


def test_revisions_are_listed_shown_pinned_and_undone(learned):
    listed = ok("revision", "list", *games(learned))
    newest = listed["revisions"][-1]
    assert listed["served"] == newest["number"]
    assert newest["n_learned"] == GAMES
    shown = run("revision", "show", newest["number"], *games(learned)).stdout
    assert f"Revision {newest['number']} ({newest['revision']}), {GAMES} outcomes" in shown
    assert all(sport in shown for sport in ("all", *SPORTS))
    assert ok("revision", "pin", 0, *games(learned)) == {"served": 0, "pinned": True}
    assert run("revision", "list", *games(learned)).stdout.splitlines()[1].startswith("*  0")
    refused = run("revision", "undo", *games(learned))
    assert (refused.exit_code, "There is nothing to undo" in refused.stderr) == (2, True)
    assert ok("revision", "unpin", *games(learned))["served"] == newest["number"]
    assert ok("revision", "undo", *games(learned)) == {"served": newest["number"] - 1, "pinned": True}
    ok("revision", "unpin", *games(learned))
    with open_store(learned) as store:
        acts = [entry.action for entry in store.audit_trail(10)]
    assert sorted(acts[:4]) == ["pin", "undo", "unpin", "unpin"]


def test_letting_go_of_a_pin_lets_go_of_the_alarm(learned):
    with open_store(learned) as store:
        stream = store.stream("games", "1")
        stream.raise_alarm("harm", "served", "critical", "It has cost too much.", {})
        ok("revision", "unpin", *games(learned))
        assert "harm" not in {alarm.kind for alarm in stream.open_alarms()}


def test_outcomes_of_a_table(learned, tmp_path):
    with open_store(learned) as store:
        store.stream("games", "1").record_predictions(
            [
                Prediction(
                    prediction_id=key,
                    predicted_at=0.0,
                    raw_probability=0.7,
                    base_probability=0.7,
                    probability=0.7,
                    prediction=1,
                    confidence=0.7,
                )
                for key in "ab"
            ]
        )
    table = pd.DataFrame({"id": ["a", "b", "ghost", "a"], "won": [1, 2, 0, 0]})
    table.to_csv(tmp_path / "won.csv", index=False)
    done = ok("outcomes", tmp_path / "won.csv", "--id", "id", "--outcome", "won", *games(learned))
    assert (done["recorded"], done["corrections"]) == (3, 1)
    (refused,) = done["refused"]
    assert refused["sentence"] == "outcome must be one of the classes '0', '1', got '2'."
    text = run("outcomes", tmp_path / "won.csv", "--id", "id", "--outcome", "won", *games(learned)).stdout
    assert text.startswith("0 recorded (0 corrections), 3 known already, 1 refused.\n  b: outcome must be")


def said(prediction_id):
    return Prediction(
        prediction_id=prediction_id,
        predicted_at=0.0,
        raw_probability=0.7,
        base_probability=0.7,
        probability=0.7,
        prediction="None",
        confidence=0.7,
    )


def test_ids_and_outcomes_are_text(tmp_path):
    uri = f"sqlite:///{tmp_path}/text.db"
    ids = ["0123", "NA", "None", "nan", "1e3", "1.0"]
    with open_store(uri) as store:
        store.stream("texts", "1", classes=["None", "NA"]).record_predictions([said(each) for each in ids])
    lines = [f"{each},{'NA' if n % 2 else 'None'}" for n, each in enumerate(ids)]
    (tmp_path / "in.csv").write_text("\n".join(["prediction_id,outcome", *lines, ",NA", "x,"]) + "\n")
    options = ["--store", uri, "--model", "texts"]
    done = ok("outcomes", tmp_path / "in.csv", *options)
    assert (done["recorded"], len(done["refused"])) == (len(ids), 2)
    assert done["refused"][0]["sentence"] == "prediction_id must not be empty."
    with open_store(uri) as store:
        rows = store.stream("texts", "1").rows()
    assert list(rows["outcome"]) == ["None", "NA"] * 3
    (tmp_path / "bad.csv").write_text("prediction_id,outcome\n0123,maybe\n")
    result = run("outcomes", tmp_path / "bad.csv", *options)
    assert result.exit_code == 1, "every row was refused"
    assert "outcome must be one of the classes 'None', 'NA', got 'maybe'." in result.stdout


def test_numbers_are_read_as_what_they_spell(tmp_path):
    uri = f"sqlite:///{tmp_path}/numbers.db"
    with open_store(uri) as store:
        store.stream("numbers", "1", classes=[0, 1])
    options = ["--store", uri, "--model", "numbers"]
    (tmp_path / "in.csv").write_text("prediction_id,outcome\n1,1.0\n2,False\n3,\n")
    done = ok("outcomes", tmp_path / "in.csv", *options)
    assert (done["recorded"], len(done["refused"])) == (2, 1)
    pd.DataFrame({"prediction_id": [1.0, None, 2.5, 7.0], "outcome": [1.0, 0.0, 0.0, None]}).to_parquet(
        tmp_path / "in.parquet"
    )
    done = ok("outcomes", tmp_path / "in.parquet", *options)
    assert (done["duplicates"], len(done["refused"])) == (1, 3)


@pytest.mark.parametrize("kind", ["parquet", "jsonl"])
def test_a_log_is_moved(learned, tmp_path, kind):
    file, other = tmp_path / f"log.{kind}", f"sqlite:///{tmp_path}/other.db"
    n = ok("store", "export", file, *games(learned))["entries"]
    assert ok("store", "import", file, "--store", other)["recorded"] == n
    with open_store(other) as store:
        assert store.stream("games", "1").counts().predictions >= GAMES


def test_old_rows_become_statistics(buffer, tmp_path):
    uri = f"sqlite:///{tmp_path}/old.db"
    assert ok("db", "upgrade", "--store", uri)["schema"]
    ok("store", "import", buffer, "--buffer", "--model", "games", "--version", "1", "--store", uri)
    assert ok("db", "prune", "--days", 0, *games(uri))["compacted"] == GAMES
    with open_store(uri) as store:
        counts = store.stream("games", "1").counts()
    assert (counts.predictions, counts.compacted) == (0, GAMES)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["revision", "list", "--model", "games"], "A store must be named by --store or MLFLOW_CALIBER_STORE_URI"),
        (["revision", "list", "--model", "golf", "--store", "{uri}"], "The store must hold golf, it holds games/1."),
        (["revision", "list", "--model", "games", "--version", "9", "--store", "{uri}"], "must hold games/9"),
        (["revision", "show", "99", "--model", "games", "--store", "{uri}"], "games/1 has no revision 99."),
        (["revision", "pin", "9" * 23, "--model", "games", "--store", "{uri}"], f"games/1 has no revision {'9' * 23}."),
        (
            ["store", "export", "{buffer}/x.jsonl", "--model", "games", "--store", "{uri}"],
            "x.jsonl cannot be written",
        ),
        (["revision", "list", "--model", "games", "--store", "sqlite:////no/such/folder/x.db"], "no/such/folder"),
        (["store", "import", "{buffer}", "--buffer", "--store", "{uri}"], "--buffer needs --model and --version"),
    ],
)
def test_what_cannot_be_done_is_said(learned, buffer, monkeypatch, arguments, sentence):
    monkeypatch.delenv("MLFLOW_CALIBER_STORE_URI", raising=False)
    result = run(*(word.format(uri=learned, buffer=buffer) for word in arguments))
    assert result.exit_code == 2
    assert sentence in result.stderr
    assert "Traceback" not in result.output

"""A served model that records what it answers and follows revisions, whatever the store does."""

from __future__ import annotations

import time

import numpy as np
import pandas as pd
import pytest

import mlflow_caliber as caliber
from mlflow_caliber.calibrators import make_calibrator
from mlflow_caliber.online import CorrectedCalibrator, HedgedRecalibrator, SnapshotMap
from mlflow_caliber.store import NewRevision, open_store
from segmented_model import save_segmented

FEATURES = ["age", "region"]


def until(condition, seconds=20.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(0)
    return pd.DataFrame({"age": rng.normal(40.0, 10.0, 600), "region": rng.choice(["north", "south"], 600)})


@pytest.fixture(scope="module")
def folder(rows, tmp_path_factory):
    return save_segmented(rows, tmp_path_factory.mktemp("linked") / "m")


@pytest.fixture
def linked(folder, tmp_path, monkeypatch):
    """A function that loads the model with a store; every link is closed at the end."""
    import mlflow

    monkeypatch.setenv("MLFLOW_CALIBER_SPOOL_DIR", str(tmp_path / "spool"))
    loaded = []

    def linked(uri=f"sqlite:///{tmp_path}/caliber.db"):
        loaded.append(mlflow.pyfunc.load_model(folder, model_config={"store_uri": uri}))
        return loaded[-1]

    yield linked
    for model in loaded:
        link_of(model).close()


def link_of(model):
    return model._model_impl.link


def stream_of(uri):
    store = open_store(uri)
    until(store.streams)
    return store.streams()[0]


@pytest.fixture
def uri(tmp_path):
    return f"sqlite:///{tmp_path}/caliber.db"


@pytest.fixture
def snapshot():
    rng, recalibrator = np.random.default_rng(2), HedgedRecalibrator()
    for p in rng.random(400):
        region = rng.choice(["north", "south"])
        recalibrator.update(recalibrator.forecast(p, region), rng.random() < p**3)
    return recalibrator.snapshot()


def publish(stream, content, name="r1"):
    lease = stream.lease("test", 60.0)
    return lease.checkpoint(0, b"", NewRevision(revision=name, map=content, n_learned=400))


@pytest.mark.parametrize("output", ["frame", "label", "proba"])
def test_every_output_mode_is_recorded_whole(linked, folder, rows, uri, output):
    model, plain = linked(), caliber.load_model(folder)
    asked = rows[:7]
    answer = model.predict(asked, params={"output": output})
    expected = plain.predict_frame(asked)
    if output == "label":
        assert answer.tolist() == plain.predict(asked).tolist()
        assert answer.dtype == plain.predict(asked).dtype
    elif output == "proba":
        np.testing.assert_allclose(answer, plain.predict_proba(asked), atol=1e-15)
    stream = stream_of(uri)
    until(lambda: stream.counts().predictions == 7)
    kept = stream.rows()
    np.testing.assert_array_equal(kept["probability"], expected["probability"])
    np.testing.assert_array_equal(kept["raw_probability"], expected["raw_probability"])
    np.testing.assert_array_equal(kept["base_probability"], expected["probability"])
    assert kept["segment"].tolist() == asked["region"].tolist()
    assert kept["prediction"].tolist() == expected["prediction"].tolist()
    if output == "frame":
        assert kept["prediction_id"].tolist() == answer["prediction_id"].tolist()


def test_a_revision_is_followed_and_undone(linked, rows, uri, folder, snapshot):
    model, plain = linked(), caliber.load_model(folder)
    model.predict(rows[:5])
    stream = stream_of(uri)
    publish(stream, snapshot.to_dict())
    until(lambda: link_of(model).model.revision == "r1")
    frame = model.predict(rows)
    expected = CorrectedCalibrator(plain.calibrator, snapshot).predict(frame["raw_probability"], segment=rows["region"])
    np.testing.assert_array_equal(frame["probability"], expected)
    assert set(frame["calibrator_revision"]) == {"r1"}
    until(lambda: stream.counts().predictions == 605)
    np.testing.assert_array_equal(stream.rows()["base_probability"][5:], plain.predict_proba(rows)[:, 1])
    stream.undo("test")
    until(lambda: link_of(model).model.revision == plain.revision)
    until(lambda: stream.replicas()[0].revision == plain.revision)


def test_a_certificate_is_suspended_while_a_revision_is_served(rows, snapshot):
    from mlflow_caliber.flavor._store_link import _corrected

    rng = np.random.default_rng(3)
    confidence = rng.uniform(0.5, 1.0, 2000)
    policy = caliber.AbstainPolicy.certify(confidence, rng.random(2000) < confidence, max_risk=0.2, delta=0.05)
    assert policy.certificate.suspended == ""
    from sklearn.linear_model import LogisticRegression

    base = LogisticRegression().fit(rows[["age"]], rows["region"])
    shipped = make_calibrator("sigmoid").fit([0.2, 0.4, 0.7], [0, 1, 1])
    live = _corrected(caliber.CalibratedModel(base, shipped, policy), snapshot, "r1")
    assert live.policy.certificate.suspended == "a live revision corrects its calibrator"
    assert live.policy.threshold == policy.threshold


def test_a_broken_revision_is_refused_and_the_last_good_one_stays(linked, rows, uri, snapshot):
    model = linked()
    model.predict(rows[:5])
    stream = stream_of(uri)
    publish(stream, snapshot.to_dict())
    until(lambda: link_of(model).model.revision == "r1")
    publish(stream, {"name": "online_snapshot", "state": {}}, "broken")
    until(lambda: "Revision 2 cannot be used" in stream.replicas()[0].trouble)
    assert set(model.predict(rows[:5])["calibrator_revision"]) == {"r1"}
    publish(stream, snapshot.to_dict(), "r3")
    until(lambda: link_of(model).model.revision == "r3")
    until(lambda: stream.replicas()[0].trouble == "")


def test_a_store_that_is_away_costs_no_answer_and_gets_all_later(linked, rows, tmp_path):
    place = tmp_path / "later"
    model = linked(f"sqlite:///{place}/caliber.db")
    frames = [model.predict(rows[k : k + 1]) for k in range(20)]
    time.sleep(0.3)
    place.mkdir()
    stream = stream_of(f"sqlite:///{place}/caliber.db")
    until(lambda: stream.counts().predictions == 20)
    assert stream.rows()["prediction_id"].tolist() == [frame["prediction_id"][0] for frame in frames]


def test_a_disk_that_is_full_costs_no_answer(linked, rows, monkeypatch, caplog):
    model = linked()

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("mlflow_caliber.flavor._spool.os.write", full)
    assert len(model.predict(rows[:3])) == 3
    assert link_of(model)._spool.dropped == 1
    assert "Predictions are served and not recorded: OSError." in caplog.text


def test_a_full_spool_drops_counts_and_says_so(linked, rows, monkeypatch, uri):
    monkeypatch.setenv("MLFLOW_CALIBER_SPOOL_BYTES", "10")
    model = linked()
    assert len(model.predict(rows[:3])) == 3
    stream = stream_of(uri)
    until(lambda: stream.replicas() and stream.replicas()[0].dropped == 1)


def test_rows_without_a_score_are_recorded_and_teach_nothing(linked, rows, uri):
    from mlflow_caliber.live import Worker

    model = linked()
    asked = rows[:2].copy()
    asked.loc[0, "age"] = np.nan
    assert model.predict(asked)["reason"].tolist() == ["unscorable_row", ""]
    stream = stream_of(uri)
    until(lambda: stream.counts().predictions == 2)
    worker = Worker(open_store(uri))
    assert worker.turn() == 2
    (job,) = worker._jobs.values()
    assert (job.learner.position, job.learner.n_waiting) == (2, 1)
    worker.close()


def test_another_users_folder_is_not_trusted(folder, tmp_path, monkeypatch):
    import mlflow

    monkeypatch.delenv("MLFLOW_CALIBER_SPOOL_DIR", raising=False)
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    (tmp_path / "mlflow-caliber-4242").mkdir()
    monkeypatch.setattr("mlflow_caliber.flavor._store_link.os.getuid", lambda: 4242)
    with pytest.raises(Exception, match="belongs to somebody else"):
        mlflow.pyfunc.load_model(folder, model_config={"store_uri": f"sqlite:///{tmp_path}/x.db"})


def test_without_the_setting_nothing_of_it_is_imported(folder, rows):
    import subprocess
    import sys

    code = (
        f"import sys, pandas as pd, mlflow.pyfunc; m = mlflow.pyfunc.load_model({folder!r});"
        "m.predict(pd.DataFrame({'age': [40.0], 'region': ['north']}));"
        "print([n for n in sys.modules if n.startswith('mlflow_caliber.store') or 'flavor._store_link' in n])"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[-2] == "[]"


def test_the_corrected_calibrator_is_saved_and_read(folder, snapshot, rows, tmp_path):
    shipped = caliber.load_model(folder).calibrator
    corrected = CorrectedCalibrator(shipped, SnapshotMap.from_dict(snapshot.to_dict()))
    info = caliber.flavor.replace_calibrator(folder, corrected)
    again = caliber.load_model(info.model_uri)
    assert again.calibrator.to_dict() == corrected.to_dict()
    parent = caliber.load_model(folder)
    assert (again.class_prior, again.profile, again.segment_column) == (
        parent.class_prior,
        parent.profile,
        parent.segment_column,
    )
    raw = parent.raw_proba(rows)
    np.testing.assert_array_equal(again.predict_proba(rows)[:, 1], corrected.predict(raw[:, 1], segment=rows["region"]))


def test_a_model_without_segments_is_saved_with_its_revision_and_refitted(tmp_path, rows):
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(1)
    y = np.where(rng.random(600) < 1.0 / (1.0 + np.exp(-0.2 * (rows["age"] - 40.0))), "yes", "no")
    base = LogisticRegression().fit(rows[["age"]][:300], y[:300])
    caliber.save_model(base, str(tmp_path / "m"), calibrator="sigmoid", calibration_data=(rows[["age"]][300:], y[300:]))
    shipped = caliber.load_model(str(tmp_path / "m")).calibrator
    corrected = CorrectedCalibrator(shipped, HedgedRecalibrator().snapshot())
    info = caliber.flavor.replace_calibrator(str(tmp_path / "m"), corrected)
    again = caliber.recalibrate(info.model_uri, rows[["age"]].assign(y=y), "y")
    assert again.calibrator == "sigmoid"


def test_a_line_that_cannot_be_read_holds_up_nothing(linked, rows, uri):
    model = linked()
    folder = link_of(model)._spool.folder
    (folder / "dead.jsonl").write_bytes(b'{"garbage\n')
    model.predict(rows[:2])
    stream = stream_of(uri)
    until(lambda: stream.counts().predictions == 2)
    until(lambda: not (folder / "dead.jsonl").exists())
    until(lambda: stream.replicas() and stream.replicas()[0].dropped == 1)


def test_steady_load_does_not_keep_a_revision_from_being_followed(linked, rows, uri, snapshot, monkeypatch):
    from mlflow_caliber.store import Stream

    record = Stream.record_predictions

    def slow(self, predictions):
        time.sleep(0.02)
        return record(self, predictions)

    monkeypatch.setattr(Stream, "record_predictions", slow)
    monkeypatch.setattr("mlflow_caliber.flavor._store_link._BATCH_BYTES", 300)  # a request at a time
    model = linked()
    model.predict(rows[:1])
    stream = stream_of(uri)
    publish(stream, snapshot.to_dict())
    end = time.monotonic() + 10.0
    while link_of(model).model.revision != "r1":
        assert time.monotonic() < end, "the revision was not followed under load"
        model.predict(rows[:1])

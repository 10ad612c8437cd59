"""Prediction ids are UUIDs of version 7: unique, and sorted by the millisecond they were made in."""

import itertools
import time
import uuid

from mlflow_caliber._ids import new_prediction_ids


def test_they_are_uuids_of_version_7_and_variant_10():
    for text in new_prediction_ids(500):
        parsed = uuid.UUID(text)
        assert str(parsed) == text
        assert (parsed.version, parsed.variant) == (7, uuid.RFC_4122)


def test_they_are_unique():
    assert len(set(new_prediction_ids(100_000))) == 100_000


def test_they_sort_by_time():
    batches = []
    for _ in range(5):
        batches.append(new_prediction_ids(100))
        time.sleep(0.002)
    assert all(max(earlier) < min(later) for earlier, later in itertools.pairwise(batches))


def test_they_carry_the_time():
    before = time.time_ns() // 1_000_000
    millis = int(new_prediction_ids(1)[0].replace("-", "")[:12], 16)
    assert before <= millis <= time.time_ns() // 1_000_000


def test_none_are_made_for_no_rows():
    assert new_prediction_ids(0) == []

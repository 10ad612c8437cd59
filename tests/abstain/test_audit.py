"""The audit draws ids by a hash: stable, even, and blind to confidence."""

import hashlib

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from mlflow_caliber.abstain import AbstainPolicy
from mlflow_caliber.exceptions import InvalidInputError

IDS = [f"case-{k}" for k in range(20_000)]
GOLDEN = [5, 10, 11, 19, 26]


def test_the_share_is_drawn():
    for share in (0.01, 0.05, 0.5):
        drawn = AbstainPolicy(audit_share=share).audit(IDS)
        assert stats.binomtest(int(drawn.sum()), len(IDS), share).pvalue > 0.01
    assert not AbstainPolicy().audit(IDS).any()
    assert AbstainPolicy(audit_share=1.0).audit(IDS).all()


def test_the_draw_is_the_same_everywhere():
    """BLAKE2b of the salt, a zero byte and the id, eight bytes, the most significant first, below share * 2**64."""
    policy = AbstainPolicy(audit_share=0.3, audit_salt="2026")
    hashes = [hashlib.blake2b(f"2026\0{one}".encode(), digest_size=8).hexdigest() for one in IDS[:50]]
    assert policy.audit(IDS[:50]).tolist() == [int(digits, 16) < 0.3 * 2**64 for digits in hashes]
    assert np.flatnonzero(AbstainPolicy(audit_share=0.1).audit(IDS[:60])).tolist() == GOLDEN


def test_the_draw_depends_on_ids_and_salt_alone():
    policy = AbstainPolicy(0.7, audit_share=0.1)
    mask = policy.audit(IDS)
    assert np.array_equal(AbstainPolicy(0.99, audit_share=0.1).audit(IDS), mask)
    assert np.array_equal(policy.audit(IDS[::-1]), mask[::-1])
    assert np.array_equal(policy.audit(pd.Series(IDS, index=range(5, 20_005))), mask)
    assert (mask <= AbstainPolicy(audit_share=0.2).audit(IDS)).all()  # a greater share draws more, not others
    other = AbstainPolicy(audit_share=0.1, audit_salt="b").audit(IDS)
    assert abs((mask & other).mean() - 0.01) < 0.005


def test_ids_of_any_kind_are_read_as_text():
    policy = AbstainPolicy(audit_share=0.5)
    assert np.array_equal(policy.audit(np.arange(100)), policy.audit([str(k) for k in range(100)]))
    assert policy.audit([]).shape == (0,)


@pytest.mark.parametrize(
    ("ids", "sentence"),
    [
        (["a", None], r"ids must not be missing, got 1 missing of 2 values\."),
        ([1.0, float("nan"), pd.NA], r"ids must not be missing, got 2 missing of 3 values\."),
        ("case-1", r"ids must have one value a row, got a str that does not convert\."),
    ],
)
def test_bad_ids_get_a_sentence(ids, sentence):
    with pytest.raises(InvalidInputError, match=sentence):
        AbstainPolicy(audit_share=0.5).audit(ids)

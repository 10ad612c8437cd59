"""Each statistic against an independent implementation, its sampling distribution, and the method that decides."""

import json
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.stats.contingency import association

from mlflow_caliber.drift import drift_from_profile, drift_report, feature_profile

N = 200
GAP = {"ks", "wasserstein"}


@st.composite
def values(draw, min_size=10):
    """Numbers with ties, few or many, of any scale."""
    n, seed = draw(st.integers(min_size, 400)), draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    numbers = {
        "codes": lambda: rng.integers(0, rng.integers(1, 60), n).astype(float),
        "normal": lambda: rng.normal(rng.normal(), 1, n),
        "skewed": lambda: rng.lognormal(0, 2, n),
        "atom": lambda: np.where(rng.random(n) < 0.7, 0.0, rng.normal(size=n)),
        "times": lambda: 1.6e9 + rng.normal(0, 1e6, n),
    }
    return numbers[draw(st.sampled_from(sorted(numbers)))]()


def only(before, now, **options):
    """The one column that two arrays make."""
    frames = (pd.DataFrame({"x": before}), pd.DataFrame({"x": now}))
    (column,) = drift_report(*frames, **{"min_rows": 1, "min_effect": 0} | options).columns
    return column


def from_profile(before, now, **options):
    profile = json.loads(json.dumps(feature_profile(pd.DataFrame({"x": before})), allow_nan=False))
    (column,) = drift_from_profile(
        profile, pd.DataFrame({"x": now}), **{"min_rows": 1, "min_effect": 0} | options
    ).columns
    return column


def differ(before, now):
    """Whether there is anything to compare: a column that is constant throughout is skipped."""
    return np.ptp(np.concatenate([before, now])) > 0


@settings(deadline=None, max_examples=50)
@given(values(), values())
def test_ks_and_wasserstein_are_those_of_scipy(before, now):
    if not differ(before, now):
        return
    column, sd = only(before, now), np.std(before)
    assert column.statistics["ks"] == pytest.approx(stats.ks_2samp(before, now, method="asymp").statistic, abs=1e-12)
    if np.ptp(before) > 0:
        expected = stats.wasserstein_distance(before, now) / sd
        assert column.statistics["wasserstein"] == pytest.approx(expected, rel=1e-9, abs=1e-9)
        assert column.shift == pytest.approx((np.mean(now) - np.mean(before)) / sd, rel=1e-9, abs=1e-7)
    else:
        assert "wasserstein" not in column.statistics
        assert column.shift is None


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(0, 30), min_size=2, max_size=5), st.data())
def test_statistics_of_categories_are_those_of_scipy(counts, data):
    other = data.draw(st.lists(st.integers(0, 30), min_size=len(counts), max_size=len(counts)))
    # Five of each, so that every level is a cell of its own.
    table = np.array([counts, other]) + 5
    before, now = (np.repeat(list("abcde")[: len(counts)], row) for row in table)
    found = only(before, now).statistics
    assert found["chi_square"] == pytest.approx(stats.chi2_contingency(table, correction=False).statistic, abs=1e-9)
    assert found["cramers_v"] == pytest.approx(association(table, method="cramer"), abs=1e-9)


def test_which_statistics_a_kind_has():
    frame = pd.DataFrame(
        {
            "number": np.arange(100.0),
            "time": pd.date_range("2020-01-01", periods=100),
            "flag": np.arange(100) % 2 == 0,
            "level": list("ab") * 50,
        }
    )
    found = {column.column: set(column.statistics) for column in drift_report(frame, frame).columns}
    always = {"psi", "jensen_shannon"}
    named = always | {"chi_square", "cramers_v"}
    assert found == {"number": always | GAP, "time": always | GAP, "flag": named, "level": named}


@settings(deadline=None, max_examples=50)
@given(values(), values())
def test_a_profile_never_says_more_than_the_rows_and_little_less(before, now):
    if not differ(before, now):
        return
    exact, stored = only(before, now), from_profile(before, now)
    (column,) = feature_profile(pd.DataFrame({"x": before}))["columns"]
    ladder = column["ladder"]
    shares = (
        np.diff(np.searchsorted(np.sort(now), ladder["edges"], side="right"), prepend=0, append=now.size) / now.size
    )
    widest = max(shares.max(), max(ladder["counts"]) / before.size)
    if "ks" in stored.statistics:
        assert stored.statistics["ks"] <= exact.statistics["ks"] + 1e-12
        assert exact.statistics["ks"] <= stored.statistics["ks"] + widest + 1e-12
    if "wasserstein" in stored.statistics:
        assert stored.shift == pytest.approx(exact.shift, rel=1e-4, abs=1e-4)
        assert abs(stored.shift) - 1e-4 <= stored.statistics["wasserstein"]
        assert stored.statistics["wasserstein"] <= exact.statistics["wasserstein"] + 1e-4


@pytest.mark.parametrize("shift", [0.2, 1.0, 5.0, -0.5])
@pytest.mark.parametrize("draw", ["normal", "lognormal", "standard_t"])
def test_of_a_shift_a_profile_says_nearly_all(shift, draw):
    """What docs/user-guide/drift.md promises for a shift of .2 standard deviations or more at 2000 rows."""
    rng = np.random.default_rng(7)
    arguments = (3,) if draw == "standard_t" else (0, 1)
    before, now = (getattr(rng, draw)(*arguments, 2000) for _ in range(2))
    now = now + shift * before.std()
    exact, stored = only(before, now), from_profile(before, now)
    assert stored.statistics["wasserstein"] == pytest.approx(exact.statistics["wasserstein"], rel=0.02)
    assert stored.statistics["ks"] == pytest.approx(exact.statistics["ks"], abs=0.01)


def test_wasserstein_and_shift_by_hand():
    """0, 1, 2, 3 against 1, 2, 3, 8: every row moves right, by 2 on average; sd = root of 5/4."""
    column = only([0.0, 1.0, 2.0, 3.0] * 10, [1.0, 2.0, 3.0, 8.0] * 5)
    assert column.statistics["wasserstein"] == pytest.approx(2 / math.sqrt(1.25), rel=1e-12)
    assert column.shift == pytest.approx(2 / math.sqrt(1.25), rel=1e-12)
    assert column.statistics["ks"] == pytest.approx(0.25, abs=1e-15)


@settings(deadline=None, max_examples=50)
@given(values(), values(), st.sampled_from(sorted(GAP)))
def test_swapping_up_for_down_changes_only_the_direction(before, now, method):
    if not differ(before, now):
        return
    up, down = only(before, now, method=method), only(-before, -now, method=method)
    assert down.statistics["ks"] == pytest.approx(up.statistics["ks"], abs=1e-12)
    if up.shift is not None:
        assert down.shift == pytest.approx(-up.shift, rel=1e-7, abs=1e-7)
        assert down.statistics["wasserstein"] == pytest.approx(up.statistics["wasserstein"], rel=1e-7, abs=1e-9)


# --- sampling distributions


@pytest.mark.parametrize(("n", "m", "shift"), [(300, 300, 0.1), (300, 120, 0.2), (2000, 500, 0.05)])
def test_the_p_value_of_ks_is_the_exact_one(n, m, shift):
    rng = np.random.default_rng(3)
    before, now = rng.normal(size=n), rng.normal(shift, 1, m)
    exact = stats.ks_2samp(before, now, method="exact").pvalue
    assert only(before, now, method="ks").p_value == pytest.approx(exact, abs=0.03)


def shuffled_gaps(before, now, replicates=4000):
    """The distance between the points of both samples together, and F - G there: as it is, and for shuffled rows."""
    points, ranks = np.unique(np.concatenate([before, now]), return_inverse=True)
    counts, n, m = np.bincount(ranks), before.size, now.size
    drawn = np.random.default_rng(0).multivariate_hypergeometric(counts, n, size=replicates, method="marginals")
    sides = np.vstack([np.bincount(ranks[:n], minlength=points.size), drawn])
    return np.diff(points), (sides.cumsum(axis=1) / n - (counts - sides).cumsum(axis=1) / m)[:, :-1]


def check_p_values(method, norm, draw, n, m, part=0.2):
    """Against permutations, over p-values from small to large: to .02 and a part of the p-value."""
    for seed in range(6):
        rng = np.random.default_rng(seed)
        before, now = draw(rng, n), draw(rng, m)
        now = now + 0.05 * seed * np.std(before) * (seed % 2 == 0)
        found, *others = norm(*shuffled_gaps(before, now))
        expected = np.mean(np.array(others) >= found - 1e-12)
        assert only(before, now, method=method).p_value == pytest.approx(expected, abs=0.02 + part * expected)


SAMPLES = {
    "few values": lambda rng, n: rng.poisson(1.5, n).astype(float),
    "an atom": lambda rng, n: np.where(rng.random(n) < 0.6, 0.0, rng.exponential(size=n)).round(1),
    "normal": lambda rng, n: rng.normal(size=n),
    "heavy tails": lambda rng, n: rng.standard_t(1.5, n),
}


@pytest.mark.parametrize("draw", SAMPLES)
@pytest.mark.parametrize(("n", "m"), [(150, 150), (150, 60)])
def test_the_p_value_of_wasserstein_is_that_of_permutations(draw, n, m):
    # One far row makes the distribution coarse where p-values are large, which no verdict depends on.
    part = 0.4 if draw == "heavy tails" else 0.2
    check_p_values("wasserstein", lambda widths, gaps: np.abs(gaps) @ widths, SAMPLES[draw], n, m, part)


@pytest.mark.parametrize("draw", [SAMPLES["few values"], SAMPLES["an atom"]])
def test_the_p_value_of_ks_of_few_values_is_that_of_permutations(draw):
    check_p_values("ks", lambda _, gaps: np.abs(gaps).max(axis=1), draw, 150, 100)


METHODS = ["psi", "jensen_shannon", "ks", "wasserstein", "chi_square", "cramers_v"]


def mixed(rng, n, shift=0.0):
    return pd.DataFrame(
        {
            "normal": rng.normal(shift, 1, n),
            "skewed": rng.lognormal(0, 1.5, n),
            "count": rng.poisson(3, n),
            "gaps": np.where(rng.random(n) < 0.1, np.nan, rng.normal(size=n)),
            "region": rng.choice(list("abcdefg"), n, p=[0.5, 0.3, 0.1, 0.05, 0.03, 0.015, 0.005]),
            "flag": rng.random(n) < 0.03,
        }
    )


@pytest.mark.parametrize("method", METHODS)
def test_the_threshold_is_the_value_whose_p_value_is_the_level(method):
    rng = np.random.default_rng(11)
    before, now = mixed(rng, 300), mixed(rng, 200)
    report = drift_report(before, now, method=method, min_effect=0)
    decided = [column for column in report.columns if column.method == method]
    assert decided
    for column in decided:
        assert not column.drifted
        assert (column.p_value > 0.05 / 6) == (column.statistic < column.threshold)


@pytest.mark.parametrize("method", METHODS[:4])
def test_a_shift_is_found_and_only_there(method):
    rng = np.random.default_rng(21)
    found = [drift_report(mixed(rng, 2000), mixed(rng, 2000, 0.2), method=method).drifted for _ in range(12)]
    assert sum("normal" in names for names in found) >= 11
    assert sum(len(set(names) - {"normal"}) for names in found) <= 2


@pytest.mark.parametrize("method", METHODS[:4])
def test_large_samples_do_not_alarm_on_nothing(method):
    rng = np.random.default_rng(22)
    before, now = (rng.normal(d, 1, 60_000) for d in (0.0, 0.05))
    assert only(before, now, method=method, min_effect=0.0).drifted
    assert not only(before, now, method=method, min_effect=0.02).drifted


def test_the_minimum_effect_is_one_shift_in_every_unit():
    """PSI .02 is a shift of .141 standard deviations: KS 2 Phi(.0707) - 1, Wasserstein .141, Jensen-Shannon .060."""
    rng = np.random.default_rng(0)
    before, now = (rng.normal(size=50_000) for _ in range(2))
    shift = math.sqrt(0.02)
    expected = {
        "psi": 0.02,
        "ks": 2 * stats.norm.cdf(shift / 2) - 1,
        "wasserstein": shift,
        "jensen_shannon": math.sqrt(0.02 / (8 * math.log(2))),
    }
    for method, value in expected.items():
        assert only(before, now, method=method, min_effect=0.02).threshold == pytest.approx(value, rel=1e-9)


def test_the_minimum_effect_of_tables():
    """PSI is about (1/n + 1/m) chi-square, so .02 is chi-square .02 n m / (n + m); V is the root of that over n + m."""
    before, now = list("ab") * 100_000, list("ab") * 25_000
    chi_square = 0.02 * 200_000 * 50_000 / 250_000
    assert only(before, now, method="chi_square", min_effect=0.02).threshold == pytest.approx(chi_square)
    assert only(before, now, method="cramers_v", min_effect=0.02).threshold == pytest.approx(
        math.sqrt(chi_square / 250_000)
    )


@pytest.mark.parametrize("method", METHODS)
def test_identical_frames_have_no_drift(method):
    frame = mixed(np.random.default_rng(0), 300)
    report = drift_report(frame, frame, method=method, min_effect=0)
    assert report.drifted == ()
    for column in report.columns:
        assert column.statistic == 0.0
        assert column.p_value == 1.0


def test_a_report_depends_on_the_seed_only_by_simulation():
    rng = np.random.default_rng(5)
    before, now = mixed(rng, 200), mixed(rng, 200)
    one, same, other = (drift_report(before, now, method="wasserstein", random_state=seed) for seed in (0, 0, 1))
    assert one == same
    assert one != other
    for a, b in zip(one.columns, other.columns, strict=True):
        assert a.statistics == b.statistics
        assert a.threshold == pytest.approx(b.threshold, rel=0.2)


def test_one_column_is_judged_alike_with_and_without_the_others():
    rng = np.random.default_rng(6)
    before, now = mixed(rng, 200), mixed(rng, 200)
    for method in GAP:
        alone = drift_report(before, now, columns=["skewed"], method=method).columns[0]
        among = next(c for c in drift_report(before, now, method=method).columns if c.column == "skewed")
        assert alone.p_value == among.p_value


# --- which method decides


def deciding(before, now, **options):
    report = drift_report(pd.DataFrame(before), pd.DataFrame(now), **options)
    return {column.column: column.method for column in report.columns}


def test_of_several_methods_each_column_takes_the_first_that_it_has():
    rng = np.random.default_rng(1)
    before, now = mixed(rng, 100), mixed(rng, 100)
    numbers = dict.fromkeys(["normal", "skewed", "count", "gaps"], "wasserstein")
    names = dict.fromkeys(["region", "flag"], "cramers_v")
    assert deciding(before, now, method=["wasserstein", "cramers_v"]) == numbers | names
    assert deciding(before, now, method=iter(["cramers_v", "wasserstein"])) == numbers | names
    assert deciding(before, now, method="cramers_v") == dict.fromkeys(numbers, "psi") | names
    assert deciding(before, now, method=[]) == dict.fromkeys(before, "psi")


UNDECIDED = {
    "infinite": ("wasserstein", np.r_[np.inf, np.arange(99.0)], None, "takes finite values"),
    "infinite now": ("wasserstein", np.arange(100.0), np.r_[np.arange(99.0), -np.inf], "takes finite values"),
    "constant before": ("wasserstein", np.ones(100), np.r_[np.ones(50), np.zeros(50)], "more than one"),
    "overflow": ("wasserstein", np.r_[-1.7e308, 1.7e308, np.arange(98.0)], None, "takes finite values"),
    "few values": ("ks", np.r_[np.arange(40.0), [np.nan] * 60], None, "takes at least 50 values on each side"),
    "none now": ("ks", np.arange(100.0), np.full(100, np.nan), "takes at least 50 values on each side"),
    "missing now": ("ks", np.arange(100.0), np.r_[np.arange(80.0), [np.nan] * 20], "share of missing values changed"),
}


@pytest.mark.parametrize(("method", "before", "now", "why"), UNDECIDED.values(), ids=UNDECIDED)
def test_where_a_method_cannot_decide_psi_does_and_says_so(method, before, now, why):
    now = before if now is None else now
    for compare in (only, from_profile):
        column = compare(before, now, method=method, min_rows=50)
        assert column.method == "psi"
        assert column.note.rpartition("psi decides: ")[2].startswith(
            "the share" if "share" in why else f"{method} takes"
        )
        assert why in column.note


def test_the_next_method_is_asked_before_psi():
    before, now = np.r_[np.inf, np.arange(99.0)], np.arange(100.0)
    column = only(before, now, method=["wasserstein", "ks"], min_rows=50)
    assert column.method == "ks"
    assert column.note.startswith("ks decides: wasserstein takes finite values")


def test_infinities_are_ordered_like_other_values():
    before, now = np.arange(100.0), np.r_[np.arange(50.0), [np.inf] * 50]
    column = only(before, now, method="ks")
    assert column.statistics["ks"] == 0.5 == stats.ks_2samp(before, now).statistic
    assert column.drifted


@pytest.mark.parametrize("method", METHODS)
def test_a_column_that_is_now_all_missing_has_drifted(method):
    frame = mixed(np.random.default_rng(0), 200)
    report = drift_report(frame, frame.assign(normal=np.nan, region=None), method=method)
    assert report.drifted == ("normal", "region")


@pytest.mark.parametrize("method", ["ks", "wasserstein"])
def test_an_all_missing_or_constant_reference_is_no_accident(method):
    before = pd.DataFrame({"gone": [np.nan] * 100, "one": [1.0] * 100, "same": [1.0] * 100})
    now = pd.DataFrame({"gone": np.arange(100.0), "one": np.arange(100.0), "same": [1.0] * 100})
    report = drift_report(before, now, method=method)
    assert report.drifted == ("one",)
    assert set(report.skipped) == {"gone", "same"}


# --- what is said


def test_the_note_names_the_direction():
    before = np.random.default_rng(2).normal(50, 10, 1000)
    for by, words in [(0.5, "Up by 0.50 "), (-2.0, "Down by 2.00 ")]:
        note = only(before, before + by * before.std(), min_effect=0.02).note
        assert note.startswith(f"{words}reference standard deviations on average. Largest change: (")
    wider = only(before, 50 + 3 * (before - 50), min_effect=0.02)
    assert wider.drifted
    assert wider.note.startswith("Largest change: (")


def test_rare_levels_are_named_as_such():
    rng = np.random.default_rng(4)
    before, now = (rng.choice([f"level {i}" for i in range(300)], 5000) for _ in range(2))
    column = only(before, now)
    assert not column.drifted
    assert column.note.startswith("Compared by its 1 most frequent levels, ")
    assert column.note.endswith(" of the reference rows, and the rest as one.")


def test_narrow_floats_are_compared_as_such():
    """Ten tenths in float32 are not those in float64, and that is no drift."""
    before = np.arange(500) % 10 / 10
    for one, other in [(before, before.astype("float32")), (before.astype("float32"), before)]:
        column = only(one, other)
        assert column.statistics["ks"] == 0.0
        assert column.statistics["wasserstein"] == 0.0
        assert from_profile(one, other).statistics["ks"] == 0.0


def test_too_few_rows_to_cut_are_not_called_a_constant():
    report = drift_report(pd.DataFrame({"x": [1.0, 2.0, 3.0]}), pd.DataFrame({"x": [7.0]}), min_rows=1)
    assert report.skipped == {"x": "It has too few different rows in the reference to be cut into cells."}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("before", "now"),
    [
        ([1.0, np.nan] * 250, [1.0, np.nan] * 250),
        ([1.0] * 250 + [np.nan] * 5, [1.0] * 250),
        (pd.array([1, None] * 250, dtype="Int64"), pd.array([1, None] * 250, dtype="Int64")),
    ],
    ids=["gaps", "gaps on one side", "nullable"],
)
def test_one_value_and_gaps(method, before, now):
    report = drift_report(pd.DataFrame({"flag": before}), pd.DataFrame({"flag": now}), method=method)
    (column,) = report.columns
    assert np.isfinite(column.statistic)
    assert not column.drifted or len(before) != len(now)

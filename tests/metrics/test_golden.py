"""Golden values, each from the definition in the paper named beside it, computed apart from this package.

Three data sets: SMALL (16 rows, no ties), WAVE (1,000 distinct probabilities, outcomes from a number-theoretic rule)
and TENTHS (probabilities on the edges of ten bins).
"""

import numpy as np
import pytest

from mlflow_caliber.metrics import (
    augrc,
    aurc,
    brier_decomposition,
    brier_score,
    e_aurc,
    expected_calibration_error,
    expected_calibration_error_upper,
    log_loss,
    roc_auc,
    top_label_calibration_error,
)

SMALL_P = np.array([0.05, 0.1, 0.2, 0.3, 0.35, 0.4, 0.55, 0.6, 0.65, 0.7, 0.8, 0.85, 0.88, 0.9, 0.95, 1.0])
SMALL_Y = np.array([0, 0, 0, 1, 0, 0, 1, 0, 1, 1, 1, 0, 1, 1, 1, 1])

I = np.arange(1000)  # noqa: E741
WAVE_P = ((7919 * I % 1000) + 0.5) / 1000
WAVE_Y = (((104729 * I + 31) % 1009) / 1009 < WAVE_P**2 * (3 - 2 * WAVE_P)).astype(int)
WAVE_CONFIDENCE = np.maximum(WAVE_P, 1 - WAVE_P)
WAVE_CORRECT = (WAVE_P > 0.5) == WAVE_Y

TENTHS_P = (I % 11) / 10
TENTHS_Y = (np.array([30, 5, 45, 10, 60, 35, 85, 50, 95, 75, 40])[I % 11] > 37 * I % 101).astype(int)

CONFIDENCE = np.array([0.99, 0.97, 0.95, 0.9, 0.85, 0.8, 0.7, 0.65, 0.6, 0.55])
CORRECT = 1 - np.array([0, 0, 1, 0, 0, 0, 1, 0, 1, 1])


def near(value):
    """Equal to the ten digits given."""
    return pytest.approx(value, abs=6e-11)


def exact(value):
    """Equal to rounding."""
    return pytest.approx(value, rel=1e-13)


class TestCalibrationError:
    """Naeini, Cooper and Hauskrecht (2015); debiased square and bias of the plug-in: Kumar, Liang and Ma (2019)."""

    def test_equal_width(self):
        assert expected_calibration_error(SMALL_Y, SMALL_P, strategy="uniform") == exact(0.17375)

    def test_equal_mass(self):
        assert expected_calibration_error(SMALL_Y, SMALL_P, n_bins=4) == exact(0.095)

    def test_debiased_l2_keeps_its_sign(self):
        root = expected_calibration_error(SMALL_Y, SMALL_P, n_bins=4, norm="l2", debias=True)
        assert root < 0
        assert root * abs(root) == exact(-0.031165625)

    def test_upper_bound(self):
        assert expected_calibration_error_upper(SMALL_Y, SMALL_P, n_bins=4) == near(0.2795376638)

    @pytest.mark.parametrize(("n_bins", "value"), [(10, 0.067), (15, 0.065089)])
    def test_wave_equal_width(self, n_bins, value):
        assert expected_calibration_error(WAVE_Y, WAVE_P, n_bins=n_bins, strategy="uniform") == exact(value)

    def test_wave_weighted(self):
        assert expected_calibration_error(WAVE_Y, WAVE_P, strategy="uniform", sample_weight=1 + I % 5) == exact(0.08)

    def test_wave_equal_mass(self):
        assert expected_calibration_error(WAVE_Y, WAVE_P) == exact(0.067)

    @pytest.mark.parametrize("strategy", ["uniform", "quantile"])
    def test_wave_top_label(self, strategy):
        """Guo et al. (2017): the winning probability against being right."""
        proba = np.column_stack([1 - WAVE_P, WAVE_P])
        assert top_label_calibration_error(WAVE_Y, proba, strategy=strategy) == exact(0.067)
        assert expected_calibration_error(WAVE_CORRECT, WAVE_CONFIDENCE, strategy=strategy) == exact(0.067)

    def test_tenths_lie_in_the_bin_they_open(self):
        """Edges from linspace put .3, .6 and .7 one bin low and give .1699."""
        assert expected_calibration_error(TENTHS_Y, TENTHS_P, strategy="uniform") == exact(0.2315)


class TestScores:
    """Brier (1950), Good (1952), Hanley and McNeil (1982), and Dimitriadis, Gneiting and Jordan (2021)."""

    def test_small(self):
        assert brier_score(SMALL_Y, SMALL_P) == exact(0.1493375)
        assert log_loss(SMALL_Y, SMALL_P) == near(0.4519821885)
        assert roc_auc(SMALL_Y, SMALL_P) == near(0.8571428571)

    def test_wave(self):
        assert WAVE_Y.sum() == 501
        assert brier_score(WAVE_Y, WAVE_P) == exact(0.13258625)
        assert log_loss(WAVE_Y, WAVE_P) == exact(0.4148656903862936)
        assert roc_auc(WAVE_Y, WAVE_P) == exact(0.901495605982424)

    def test_small_decomposition(self):
        assert brier_decomposition(SMALL_Y, SMALL_P) == near((0.0295458333333, 0.1263020833333, 0.24609375))

    def test_wave_decomposition(self):
        expected = (0.00725803578727513, 0.12467078578727511, 0.249999)
        assert brier_decomposition(WAVE_Y, WAVE_P) == pytest.approx(expected, abs=1e-15)


class TestSelective:
    """AURC (mean of selective risks), E-AURC: Geifman, Uziel and El-Yaniv (2019); AUGRC: Traub et al. (2024)."""

    def test_small(self):
        assert aurc(CONFIDENCE, CORRECT) == near(0.2219047619)
        assert aurc(CORRECT, CORRECT) == near(0.1126190476)
        assert e_aurc(CONFIDENCE, CORRECT) == near(0.1092857143)
        assert augrc(CONFIDENCE, CORRECT) == exact(0.13)

    def test_augrc_from_the_auc_of_confidence(self):
        auc, error = roc_auc(CORRECT, CONFIDENCE), 1 - CORRECT.mean()
        assert auc == near(0.7916666667)
        assert augrc(CONFIDENCE, CORRECT) == exact((1 - auc) * (1 - error) * error + error**2 / 2)

    def test_wave_without_ties(self):
        assert aurc(WAVE_P, WAVE_Y) == exact(0.20624050842324537)

    def test_wave_with_ties(self):
        assert aurc(WAVE_CONFIDENCE, WAVE_CORRECT) == exact(0.0666894353125534)
        assert aurc(WAVE_CONFIDENCE.round(2), WAVE_CORRECT) == exact(0.06671174299858405)

"""The fine grid on which statistics count scores: its edges and its cells."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from merged_statistics import PROBABILITIES, quick
from mlflow_caliber.exceptions import InvalidInputError
from mlflow_caliber.metrics import ScoreStatistics
from mlflow_caliber.metrics._grid import EDGES, N_CELLS, N_GAPS, cell_of, within_cell


class TestGrid:
    def test_every_edge_and_gap_is_a_cell(self):
        number = np.arange(N_GAPS)
        np.testing.assert_array_equal(cell_of(EDGES), 2 * np.arange(N_GAPS + 1))
        np.testing.assert_array_equal(cell_of(np.nextafter(EDGES[:-1], 1.0)), 2 * number + 1)
        np.testing.assert_array_equal(cell_of(np.nextafter(EDGES[1:], 0.0)), 2 * number + 1)
        assert (EDGES[0], EDGES[-1], N_CELLS) == (0.0, 1.0, 2 * N_GAPS + 1)
        assert np.all(np.diff(EDGES) > 0.0)

    @pytest.mark.parametrize("n_bins", [1, 2, 4, 5, 10, 12, 15, 16, 20, 25, 50, 100, 1000])
    def test_edges_of_common_bins_are_edges(self, n_bins):
        assert np.isin(np.arange(n_bins + 1) / n_bins, EDGES).all()

    def test_scores_with_few_digits_are_edges(self):
        two_digits = [float(f"{digits}e-{power}") for digits in range(1, 100) for power in range(3, 14)]
        assert np.isin(two_digits, EDGES).all()
        assert np.isin([round(1.0 - score, 13) for score in two_digits], EDGES).all()

    def test_gaps_are_narrow_everywhere(self):
        middle, width = (EDGES[1:] + EDGES[:-1]) / 2, np.diff(EDGES)
        assert width.max() == pytest.approx(1 / 6000)
        inside = (EDGES[:-1] >= 1e-12) & (EDGES[1:] <= 1 - 1e-12)
        assert np.all((width / np.minimum(middle, 1 - middle))[inside] <= 1 / 60)
        assert EDGES[1] == pytest.approx(1 / 6e14)

    @quick
    @given(p=st.lists(PROBABILITIES, min_size=1, max_size=50))
    def test_a_cell_is_found_as_by_searching_the_edges(self, p):
        below = np.searchsorted(EDGES, p, side="right") - 1
        np.testing.assert_array_equal(ScoreStatistics.cell_of(p), 2 * below + (np.array(p) != EDGES[below]))

    def test_a_rounded_mean_stays_in_its_cell(self):
        cells = np.array([0, 1, 1, 2 * N_GAPS, N_GAPS])
        values = within_cell(cells, np.array([0.3, 0.0, 1e-5, 2.0, 0.5 + 1e-17]))
        np.testing.assert_array_equal(cell_of(values), cells)
        assert values[0] == 0.0
        assert values[3] == 1.0

    def test_scores_out_of_range_get_a_sentence(self):
        with pytest.raises(InvalidInputError, match=r"y_proba must lie in \[0, 1\], got a maximum of 1\.7\."):
            ScoreStatistics.cell_of([0.5, 1.7])

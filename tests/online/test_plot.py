"""The backtest's figure."""

from __future__ import annotations

import io

import pytest

from mlflow_caliber.online import HedgedRecalibrator, RollingRecalibrator, backtest
from mlflow_caliber.plots import backtest_plot, save_png


@pytest.mark.parametrize(("kind", "panels"), [(HedgedRecalibrator, 2), (RollingRecalibrator, 1)])
def test_what_is_drawn(kind, panels, stream):
    p, y, _ = stream
    result = backtest(kind(), p, y)
    figure = backtest_plot(result, title="North")
    assert len(figure.axes) == panels
    lines = {line.get_label(): line for line in figure.axes[0].get_lines()}
    assert lines["served"].get_ydata()[-1] == result.cumulative_excess[-1]
    assert ("never above" in lines) == (kind is HedgedRecalibrator)
    if panels == 2:
        assert {line.get_label() for line in figure.axes[1].get_lines()} == set(result.weights)
    file = io.BytesIO()
    save_png(figure, file)
    assert file.getvalue().startswith(b"\x89PNG")


def test_a_stream_of_one_row():
    assert len(backtest_plot(backtest(HedgedRecalibrator(), [0.5], [1])).axes) == 2

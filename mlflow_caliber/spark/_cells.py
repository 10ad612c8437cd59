"""The grid of score statistics as an expression that Spark compiles.

The operations are those of ``ScoreStatistics.cell_of``: a product, a rounding to even, a quotient and two comparisons
of doubles. Java and NumPy give the same bits for each, so a row is in the same cell wherever it is counted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyspark.sql import Column

__all__ = ["cell_column"]

_DECADES = range(3, 13)
_PER_DECADE, _LAST = 600.0, 17_880.0


def cell_column(p: Column) -> Column:
    """The cell of each probability, a whole number; the rows of the table in ``ScoreStatistics.cell_of``.

    Parameters
    ----------
    p : Column
        Doubles in [0, 1]; for anything else the result says nothing.

    Returns
    -------
    Column
        Of type int.

    Examples
    --------
    >>> df.select(cell_column(df.probability))  # doctest: +SKIP
    """
    from pyspark.sql import functions as sf

    # The middle first: most scores are there, and a compiled chain of conditions ends at the first that holds.
    cell = sf.when((p >= 0.01) & (p < 0.99), _on_level(p, 6_000.0, 5_940.0))
    for j in _DECADES:
        edges, before = _PER_DECADE * 10.0 ** (j - 1), 540.0 * (13 - j)
        upper = 10.0 ** (j - 1)
        low = (p >= 1.0 / 10.0**j) & (p < 1.0 / upper)
        high = (p >= (upper - 1.0) / upper) & (p < (10.0**j - 1.0) / 10.0**j)
        cell = cell.when(low, _on_level(p, edges, before)).when(high, _on_level(p, edges, _LAST - before - edges))
    finest = _PER_DECADE * 1e12
    cell = cell.when(p < 0.5, _on_level(p, finest, 0.0)).otherwise(_on_level(p, finest, _LAST - finest))
    return cell.cast("int")


def _on_level(p: Column, edges: float, offset: float) -> Column:
    from pyspark.sql import functions as sf

    number = sf.rint(p * sf.lit(edges))
    return 2.0 * (number + sf.lit(offset)) + sf.signum(p - number / sf.lit(edges))

"""Reports of rows that come in batches: sums that can be added, and Arrow files as batches of rows.

A cluster, a stream and a folder of files make the same report, because all of them add up the same sums.
"""

from mlflow_caliber.batches._columns import label_text
from mlflow_caliber.batches._files import DataFiles, FileBatch
from mlflow_caliber.batches._scan import ReportColumns, add_batches, load_columns, scan_statistics
from mlflow_caliber.batches._statistics import ReportStatistics

__all__ = [
    "DataFiles",
    "FileBatch",
    "ReportColumns",
    "ReportStatistics",
    "add_batches",
    "label_text",
    "load_columns",
    "scan_statistics",
]

"""``mlflow-caliber report`` on files of any size: memory, and time against reading the same columns with PyArrow.

Run it by hand: ``python tests/benchmarks/report_files.py [rows] [pairs]`` (100,000,000 and 3 unless told otherwise; it
writes as many bytes as there are rows times nine into a temporary folder, and removes them). Each line is the median
of pairs, ours and the peer in turn: as whole commands, each a process with its imports, and as loops inside one
process. The peer reads the columns that ours needs with ``pyarrow.parquet.ParquetFile.iter_batches`` and its defaults,
and does nothing with them. Memory is the peak of the whole command.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import parquet

ROW_GROUP = 1 << 20  # PyArrow's own
REGIONS = np.array(["north", "east", "south", "west", "abroad"])
READ = (
    "import pathlib, sys\n"
    "from pyarrow import parquet\n"
    "for file in sorted(pathlib.Path(sys.argv[1]).rglob('*.parquet')):\n"
    "    for batch in parquet.ParquetFile(file).iter_batches(columns=sys.argv[2:]): pass\n"
)
# The peak of the process's own memory: getrusage would begin with that of the process that started it.
PEAK = (
    "import atexit, pathlib, re, sys\n"
    "status = pathlib.Path('/proc/self/status')\n"
    "atexit.register(lambda: print(re.search(r'VmHWM:\\s+(\\d+)', status.read_text())[1], file=sys.stderr))\n"
)
COMMAND = f"{PEAK}from mlflow_caliber.cli import main\nmain()"
# The column beside labels and probabilities: the command's option for it, and the function's.
MORE = {"w": ("--weight", {"weight": "w"}), "region": ("--segments", {"segments": ["region"]})}


def write(folder: Path, n: int, *, more: str | None = None, single: bool = False, files: int = 1) -> Path:
    """Scored rows, a row group at a time."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    for i in range(files):
        left, writer = n // files, None
        while left:
            size = min(left, ROW_GROUP)
            p = rng.beta(0.7, 1.3, size)
            columns = {"p": p.astype(np.float32) if single else p, "y": (rng.random(size) < p).astype(np.int8)}
            if more == "w":
                columns["w"] = rng.gamma(2.0, 1.0, size)
            table = pa.table(columns)
            if more == "region":
                codes = pa.array(rng.integers(0, REGIONS.size, size).astype(np.int32))
                table = table.append_column(
                    "region", pa.DictionaryArray.from_arrays(codes, REGIONS).dictionary_decode()
                )
            writer = writer or parquet.ParquetWriter(folder / f"part-{i:03}.parquet", table.schema)
            writer.write_table(table)
            left -= size
        if writer is not None:
            writer.close()
    return folder


def command(code: str, arguments: list[str]) -> int:
    """Run Python code as a process; what it says last on stderr, in kilobytes, is its peak of memory."""
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    return int(done.stderr.split()[-1])


def read(folder: Path, columns: list[str]) -> None:
    for file in sorted(folder.rglob("*.parquet")):
        for _ in parquet.ParquetFile(file).iter_batches(columns=columns):
            pass


def pairs(ours: Callable[[], object], peer: Callable[[], object], repeats: int) -> tuple[float, float, float]:
    """Medians of both and of their ratio."""
    mine, theirs = [], []
    for _ in range(repeats):
        for function, found in ((ours, mine), (peer, theirs)):
            start = time.perf_counter()
            function()
            found.append(time.perf_counter() - start)
    ratios = [a / b for a, b in zip(mine, theirs, strict=True)]
    return statistics.median(mine), statistics.median(theirs), statistics.median(ratios)


def lines(work: str, folder: Path, n: int, more: str | None, repeats: int) -> None:
    from mlflow_caliber.batches import scan_statistics

    option, named = MORE[more] if more else ("", {})
    columns = ["p", "y", *([more] if more else [])]
    report = ["report", str(folder), "--target", "y", "--proba", "p", "--json"]
    report += [option, more] if more else []
    peaks: list[int] = []
    whole = pairs(
        lambda: peaks.append(command(COMMAND, report)), lambda: command(PEAK + READ, [str(folder), *columns]), repeats
    )
    loop = pairs(
        lambda: scan_statistics(folder, target="y", proba="p", **named), lambda: read(folder, columns), repeats
    )
    for what, (mine, theirs, ratio), peak in (("command", whole, f"{max(peaks) / 1024:.0f}"), ("loop", loop, "")):
        print(f"| {work} | {what} | {n:,} | {mine:.2f} | {theirs:.2f} | {ratio:.2f} | {peak} |", flush=True)


def main(n: int = 100_000_000, repeats: int = 3) -> None:
    print(
        "| rows of | what | rows | ours, s | PyArrow, s | ratio | peak, MB |\n|---|---|---|---|---|---|---|", flush=True
    )
    some = max(n // 5, 1)
    cases = (
        ("float64", n, None, False, 1),
        ("float32", some, None, True, 1),
        ("float64 and weights", some, "w", False, 1),
        ("float64 and a segment", some, "region", False, 1),
        ("float64 in 100 files", some, None, False, 100),
    )
    for work, rows, more, single, files in cases:
        with tempfile.TemporaryDirectory() as scratch:
            folder = write(Path(scratch) / "scored", rows, more=more, single=single, files=files)
            lines(work, folder, rows, more, repeats)


if __name__ == "__main__":
    main(*(int(float(argument)) for argument in sys.argv[1:]))

"""Served predictions on their way to the store, in a file: what a client was told survives the process that said it.

Each serving process owns one file and holds its lock. A request appends one line; a background thread reads lines,
hands them to the store and only then forgets them. A process that was killed leaves its file behind with the lock open:
the next process to look takes it over. A line may reach the store twice, which knows its ids and keeps it once.
"""

from __future__ import annotations

import os
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows: files are not taken over from processes that died
    fcntl = None  # type: ignore[assignment]

__all__ = ["Spool"]

_SUFFIX = ".jsonl"


class Spool:
    """The queue of one process between its requests and the store.

    Parameters
    ----------
    folder : Path
        Where the files of all processes of one model are; made if need be, readable by its owner only.
    limit : int
        Bytes that may wait; what comes beyond is dropped and counted.

    Attributes
    ----------
    dropped : int
        Lines that found no room.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.folder = folder
        self.limit = limit
        self.dropped = 0
        self._path, self._file = _new_file(folder)
        self._turn = threading.Lock()
        self._read = self._size = 0

    @property
    def waiting(self) -> int:
        """Bytes that have not been taken."""
        return self._size - self._read

    def append(self, line: bytes) -> bool:
        """Add a line without its end; whether there was room."""
        with self._turn:
            if self.waiting + len(line) >= self.limit:
                self.dropped += 1
                return False
            # One write: a process that is killed has written the line or (nearly always) nothing of it.
            written = os.write(self._file, line + b"\n")
            if written <= len(line):  # the disk is full: half a line must not meet the next one
                os.ftruncate(self._file, self._size)
                self.dropped += 1
                return False
            self._size += written
            return True

    def peek(self, at_most: int) -> list[bytes]:
        """The oldest lines, up to so many bytes but at least one; they stay until :meth:`forget`."""
        with self._turn:
            return _whole_lines(os.pread(self._file, self.waiting, self._read), at_most)

    def forget(self, lines: list[bytes]) -> None:
        """The store has what :meth:`peek` returned."""
        with self._turn:
            self._read += sum(map(len, lines)) + len(lines)
            if self._read == self._size:
                os.ftruncate(self._file, 0)
                self._read = self._size = 0
            elif self._read > self.limit:  # under load it never runs empty
                rest = os.pread(self._file, self.waiting, self._read)
                self._start_over(rest)

    def _start_over(self, rest: bytes) -> None:
        """Go on in a new file: what was read before is gone, and at no time is a line in none."""
        path, file = _new_file(self.folder)
        os.write(file, rest)
        self._path.unlink(missing_ok=True)
        os.close(self._file)
        self._path, self._file, self._read, self._size = path, file, 0, len(rest)

    def orphans(self) -> Iterator[list[bytes]]:
        """The lines of each process that died; its file goes when the caller comes back for the next."""
        for path in sorted(self.folder.glob(f"*{_SUFFIX}")):
            if path == self._path:
                continue
            try:
                file = os.open(path, os.O_RDWR)
            except OSError:  # its owner, or another heir, was faster; or it is not for us
                continue
            try:
                if _try_lock(file):
                    yield _whole_lines(path.read_bytes())
                    path.unlink(missing_ok=True)
            finally:
                os.close(file)

    def close(self) -> None:
        """Leave; what the store does not have yet stays for the next process."""
        with self._turn:
            if not self.waiting:
                self._path.unlink(missing_ok=True)
            os.close(self._file)


def _new_file(folder: Path) -> tuple[Path, int]:
    """A file with our lock on it, which nobody sees before it has one."""
    hidden = folder / f"{uuid.uuid4().hex}.new"
    file = os.open(hidden, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
    _try_lock(file)
    path = hidden.with_suffix(_SUFFIX)
    hidden.rename(path)
    return path, file


def _whole_lines(text: bytes, at_most: int | None = None) -> list[bytes]:
    """Lines that have an end; a last one without was cut off by the death of its writer, before its answer left."""
    lines = text.split(b"\n")[:-1]
    if at_most is None:
        return lines
    size = 0
    taken: list[bytes] = []
    for line in lines:
        size += len(line)
        if taken and size > at_most:
            break
        taken.append(line)
    return taken


def _try_lock(file: int) -> bool:
    if fcntl is None:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True

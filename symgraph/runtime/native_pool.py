"""The threads that run chunks: Python daemon threads that live in native code with the GIL released.

On two cores a split step costs about 0.5 microseconds more than a whole one while the threads are awake (some 10
microseconds after their last chunk), and about 30 when they have to be woken.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading

from symgraph.runtime.native_layout import POOL_WORDS, Pool, Table

_MUTEX_NAMES = {
    Table.LOCK: "pthread_mutex_lock",
    Table.UNLOCK: "pthread_mutex_unlock",
    Table.WAIT: "pthread_cond_wait",
    Table.SIGNAL: "pthread_cond_signal",
    Table.BROADCAST: "pthread_cond_broadcast",
}


def default_threads() -> int:
    """The number of cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class ThreadPool:
    """The pool of this process. Threads are started when a program first has work for them, in each process anew.

    `threads` counts the calling thread too; 1 means that chunks run one after the other in the caller.
    """

    def __init__(self, table: ctypes.Array[ctypes.c_int64], worker: int, threads: int | None = None) -> None:
        self._table = table
        self._worker = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)(worker)  # releases the GIL
        self._lock = threading.Lock()
        self._libc = _posix_threads()
        self._threads = 1
        self._words: ctypes.Array[ctypes.c_int64]
        if self._libc is not None:
            for word, name in _MUTEX_NAMES.items():
                table[word] = ctypes.cast(getattr(self._libc, name), ctypes.c_void_p).value or 0
        self._fresh(default_threads() if threads is None else threads)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._after_fork)

    @property
    def threads(self) -> int:
        return self._threads

    @property
    def workers(self) -> int:
        """How many threads have been started and wait."""
        return self._words[Pool.WORKERS]

    def set_threads(self, threads: int) -> None:
        """Change the size of the pool. Threads at work finish their step with the old one."""
        if threads < 1:
            raise ValueError(f"a pool needs at least one thread, not {threads}")
        with self._lock:
            old = self._words
            self._fresh(threads)
            old[Pool.WANTED] = 0
            old[Pool.STOP] = 1
            if self._libc is not None:
                base = ctypes.addressof(old)
                self._libc.pthread_mutex_lock(ctypes.c_void_p(base + 8 * Pool.MUTEX))
                self._libc.pthread_cond_broadcast(ctypes.c_void_p(base + 8 * Pool.WORK))
                self._libc.pthread_mutex_unlock(ctypes.c_void_p(base + 8 * Pool.MUTEX))

    def start(self) -> None:
        """Start the threads that are missing; called by an entry that has chunks for them."""
        with self._lock:
            words = self._words
            for number in range(words[Pool.WORKERS], words[Pool.WANTED]):
                thread = threading.Thread(
                    target=self._worker, args=(ctypes.addressof(words),), name=f"symgraph-{number + 1}", daemon=True
                )
                try:
                    thread.start()
                except RuntimeError:  # no more threads, or the interpreter is shutting down
                    words[Pool.WANTED] = number
                    return
                words[Pool.WORKERS] = number + 1

    def _fresh(self, threads: int) -> None:
        """A new pool without threads. Its memory is never freed: threads may wait in it until the process ends."""
        malloc, size = ctypes.pythonapi.PyMem_RawCalloc, 8 * POOL_WORDS + 64
        malloc.restype, malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t, ctypes.c_size_t]
        start: int | None = malloc(1, size)
        if start is None:
            raise MemoryError
        words = (ctypes.c_int64 * POOL_WORDS).from_address((start + 63) & -64)
        base = ctypes.addressof(words)
        if self._libc is None:
            threads = 1
        else:
            self._libc.pthread_mutex_init(ctypes.c_void_p(base + 8 * Pool.MUTEX), None)
            for condition in (Pool.WORK, Pool.DONE_COND):
                self._libc.pthread_cond_init(ctypes.c_void_p(base + 8 * condition), None)
        words[Pool.WANTED] = threads - 1
        words[Pool.TABLE] = ctypes.addressof(self._table)
        self._threads, self._words = threads, words
        self._table[Table.POOL] = base

    def _after_fork(self) -> None:
        self._lock = threading.Lock()
        self._fresh(self._threads)


def _posix_threads() -> ctypes.CDLL | None:
    if not sys.platform.startswith(("linux", "darwin")):
        return None
    libc = ctypes.CDLL(None)
    names = (*_MUTEX_NAMES.values(), "pthread_mutex_init", "pthread_cond_init")
    return libc if all(hasattr(libc, name) for name in names) else None

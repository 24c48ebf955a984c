"""Numba decides once in a process whether its CUDA simulator runs: these tests have a process of their own."""

import os

collect_ignore_glob = [] if os.environ.get("NUMBA_ENABLE_CUDASIM") == "1" else ["test_*.py"]

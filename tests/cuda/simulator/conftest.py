"""Tests of what kernels compute, on Numba's CUDA simulator or, asked for by ``SYMGRAPH_TEST_GPU=1``, on a real device.

Numba decides once in a process whether its simulator runs: these tests have a process of their own.
"""

import os

SIMULATED = os.environ.get("NUMBA_ENABLE_CUDASIM") == "1"
HARDWARE = os.environ.get("SYMGRAPH_TEST_GPU") == "1" and not SIMULATED

# What is plain Python in the simulator alone: scalar functions and elements called as they stand, kernels lane by lane.
ONLY_SIMULATED = ["test_races.py", "test_scalar.py", "test_sort_kernels.py", "test_wide.py"]

collect_ignore_glob = [] if SIMULATED else ONLY_SIMULATED if HARDWARE else ["test_*.py"]

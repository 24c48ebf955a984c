"""Kernels for NVIDIA GPUs, written for Numba-CUDA: scalar functions, the threads of a launch, and their cooperation.

Everything is a plain Python function (:mod:`~symgraph_kernels.cuda.scalar`, :mod:`~symgraph_kernels.cuda.threads`),
compiled into the kernels that use it, and run as it stands by Numba's CUDA simulator (``NUMBA_ENABLE_CUDASIM=1`` in the
environment before Numba is imported). Importing this package imports nothing; its modules need ``numba-cuda``.
"""

"""symgraph beside its peers: ``python -m benchmarks``."""

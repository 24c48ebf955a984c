"""Tuned kernels that know nothing of graphs: scalar vocabularies, library bindings, hand-written loops.

Each subpackage serves one device and imports its compiler only when something of it is first used.
"""

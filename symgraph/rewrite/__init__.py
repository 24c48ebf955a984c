"""Rewriting: rules as equations, and the engine that applies them. Rule sets are split by intent, one file each."""

"""Pictures of graphs, at every stage of compilation, with no program but Python."""

"""Search in layers: first hits, a walk over the graph, pairs, and why a passage was chosen."""

"""``harmowam watch``: a running graph, or a bag, in Rerun."""

"""Random chunks, joint states, scores and orders through the pure arbiter; the auditor judges all that comes out (``harmowam fuzz``)."""

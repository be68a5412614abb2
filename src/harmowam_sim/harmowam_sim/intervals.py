"""Wilson score intervals for shares."""

from __future__ import annotations

from math import sqrt

Z95 = 1.959964


def wilson(share: float, trials: int) -> tuple[float, float]:
    """95 % interval of a mean of numbers in [0, 1] over ``trials`` (exact for counts, cautious for graded scores)."""
    if trials <= 0:
        raise ValueError(f"an interval needs at least one trial, not {trials}")
    centre = share + Z95**2 / (2 * trials)
    half = Z95 * sqrt(share * (1 - share) / trials + Z95**2 / (4 * trials**2))
    scale = 1 + Z95**2 / trials
    return max((centre - half) / scale, 0.0), min((centre + half) / scale, 1.0)

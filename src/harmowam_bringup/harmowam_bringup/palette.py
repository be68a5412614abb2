"""Colours of experts, phases and imagination, the same in terminal, video and report."""

from __future__ import annotations

from harmowam_core.stages import Expert

EXPERT_COLOURS: dict[Expert | None, str] = {Expert.PREDICTIVE: "#e07b39", Expert.REACTIVE: "#3a7ca5", None: "#9aa0a6"}
IMAGINED, CAME = "#7b4fa0", "#2f7d4f"
INK, PAPER, FAINT = "#1f2328", "#ffffff", "#d0d7de"


def rgb(colour: str) -> tuple[int, int, int]:
    """``#rrggbb`` as numbers."""
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)

"""Predictive-expert node: imaginations in, action chunks out."""

from __future__ import annotations

from typing import Any

from harmowam_core.lifecycle import run
from harmowam_core.stages import Expert
from harmowam_experts import load_predictive_expert
from harmowam_experts.expert_node import ExpertNode
from harmowam_experts.protocol import ActionExpert


class PredictiveExpertNode(ExpertNode):
    """Serves the predictive expert."""

    source = Expert.PREDICTIVE

    def load(self, preset: str, **options: Any) -> ActionExpert:
        """The preset's predictive expert."""
        return load_predictive_expert(preset, **options)


def main() -> None:
    """Run the node."""
    run(PredictiveExpertNode, nice=5)


if __name__ == "__main__":
    main()

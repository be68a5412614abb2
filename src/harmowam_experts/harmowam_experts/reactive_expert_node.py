"""Reactive-expert node: imaginations in, action chunks out."""

from __future__ import annotations

from typing import Any

from harmowam_core.lifecycle import run
from harmowam_core.stages import Expert
from harmowam_experts import load_reactive_expert
from harmowam_experts.expert_node import ExpertNode
from harmowam_experts.protocol import ActionExpert


class ReactiveExpertNode(ExpertNode):
    """Serves the reactive expert."""

    source = Expert.REACTIVE

    def load(self, preset: str, **options: Any) -> ActionExpert:
        """The preset's reactive expert."""
        return load_reactive_expert(preset, **options)


def main() -> None:
    """Run the node."""
    run(ReactiveExpertNode, nice=5)


if __name__ == "__main__":
    main()

"""The report of a run: one HTML file with everything inside."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from harmowam_bringup import plots
from harmowam_bringup.palette import CAME, EXPERT_COLOURS, IMAGINED
from harmowam_bringup.pictures import comparisons, data_uri, evenly
from harmowam_bringup.recording import Recording, latencies_ms
from harmowam_core.cell import Cell

FILMSTRIP_PICTURES = 10
COMPARISONS = 5


def write_report(path: Path, recording: Recording, summary: dict[str, Any], cell: Cell) -> None:
    """Write ``path``; ``summary`` is what stands in summary.json."""
    environment = Environment(loader=PackageLoader("harmowam_bringup"), autoescape=True, undefined=StrictUndefined)
    html = environment.get_template("report.html.j2").render(
        summary=summary,
        expert_colours={expert.value if expert else "none": colour for expert, colour in EXPERT_COLOURS.items()},
        colours={"imagined": IMAGINED, "came": CAME},
        filmstrip=_filmstrip(recording),
        comparisons=[
            {
                "at_s": recording.since_start_s(item.stamp_ns),
                "error": item.error,
                "imagined": [data_uri(frame, 2) for frame in item.imagined],
                "came": [data_uri(frame, 2) for frame in item.came],
            }
            for item in comparisons(recording, COMPARISONS)
        ],
        plots={
            "gate": plots.gate_timeline(recording),
            "tcp": plots.tcp_path(recording, cell),
            "joints": plots.joint_positions(recording, cell),
            "latencies": plots.latency_histogram(latencies_ms(recording, cell.controllers.arm_topic)),
        },
        malformed=recording.malformed[:20],
    )
    path.write_text(html)


def _filmstrip(recording: Recording) -> list[dict[str, Any]]:
    scene = evenly(recording.pictures.get("scene", []), FILMSTRIP_PICTURES)
    return [{"at_s": recording.since_start_s(item.received_ns), "image": data_uri(item.value.image)} for item in scene]

"""What the viewer shows when it opens."""

from __future__ import annotations

import rerun.blueprint as rrb

from harmowam_bringup.watch import entities
from harmowam_core.cell import Cell

SHOWN_S = 20.0
"""How much of the past the plots show."""


def watch_blueprint(cell: Cell) -> rrb.Blueprint:
    """Arms and paths, cameras, imagination beside what came, and everything over time below."""
    last_seconds = rrb.VisibleTimeRanges(
        timeline=entities.TIMELINE,
        start=rrb.TimeRangeBoundary.cursor_relative(seconds=-SHOWN_S),
        end=rrb.TimeRangeBoundary.cursor_relative(),
    )
    space = rrb.Spatial3DView(
        origin="/",
        contents=["+ $origin/**", f"- {entities.IMAGINED}/**"],
        name="Cell",
        spatial_information=rrb.SpatialInformation(target_frame=cell.base_frame),
        eye_controls=rrb.EyeControls3D(position=(1.3, 0.8, 0.8), look_target=(0.35, 0.0, 0.22), eye_up=(0.0, 0.0, 1.0)),
    )
    cameras = [rrb.Spatial2DView(origin=entities.camera(camera.name), name=camera.name) for camera in cell.cameras]
    beside = rrb.Horizontal(
        rrb.Spatial2DView(origin=entities.FOR_NOW, name="Imagined for now"), rrb.Spatial2DView(origin=entities.CAME, name="What came")
    )
    strip = rrb.Spatial2DView(origin=entities.NEXT, name="Imagined next")
    plots = [
        rrb.TimeSeriesView(origin=origin, name=name, time_ranges=last_seconds)
        for origin, name in (
            (entities.SCORE, "Gate score"),
            (entities.DRIFT, "Drift"),
            (entities.LATENCY, "Latency from observation (ms)"),
            (entities.TIMING, "World model (ms)"),
        )
    ]
    return rrb.Blueprint(
        rrb.Vertical(
            rrb.Horizontal(space, rrb.Vertical(rrb.Horizontal(*cameras), beside, strip, row_shares=[3, 3, 2]), column_shares=[1, 1]),
            rrb.StateTimelineView(origin=entities.GATE, name="Gate", time_ranges=last_seconds),
            rrb.Horizontal(*plots, rrb.TextLogView(origin=entities.SAID, name="Said")),
            row_shares=[12, 5, 6],
        ),
        rrb.TimePanel(timeline=entities.TIMELINE, state="collapsed"),
        rrb.BlueprintPanel(state="collapsed"),
        rrb.SelectionPanel(state="collapsed"),
    )

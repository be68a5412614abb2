"""The video of a run: scene and wrist, what was imagined and what came, and the gate's timeline."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import imageio_ffmpeg
import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from harmowam_bringup.palette import CAME, EXPERT_COLOURS, FAINT, IMAGINED, INK, PAPER, rgb
from harmowam_bringup.pictures import STRIP_FRAMES, compare
from harmowam_bringup.recording import Received, Recording, score_at
from harmowam_core.stages import UInt8

SIZE = (1280, 720)  # width, height
SCENE_SIZE, WRIST_SIZE = (512, 640), (288, 288)  # height, width of the views as rendered
FRAMES_PER_S = 10
TITLE_S, END_S = 0.5, 1.5  # first and last frame are held this long

_MARGIN, _TOP = 16, 48
_RIGHT = _MARGIN + SCENE_SIZE[1] + 16
_STRIP_TOP = _TOP + WRIST_SIZE[0] + 12
_TIMELINE = (_MARGIN, 584, SIZE[0] - _MARGIN, 704)

T = TypeVar("T")
View = Iterable[tuple[int, UInt8]]
"""(stamp_ns, (H, W, 3) uint8 RGB) in order of time."""


def write_video(path: Path, recording: Recording, instruction: str, views: Mapping[str, View]) -> None:
    """Write an H.264 file; ``views`` are "scene" and "wrist", shown as they are at each moment of the recording.

    ValueError if a view shows nothing.
    """
    timeline, scratch = _timeline(recording), path.with_name(f".{path.name}")
    encoder = ["-crf", "23", "-preset", "veryfast"]
    writer = imageio_ffmpeg.write_frames(
        str(scratch), SIZE, fps=FRAMES_PER_S, codec="libx264", quality=None, macro_block_size=1, output_params=encoder
    )
    writer.send(None)
    try:
        for frame in _held(_frames(recording, instruction, views, timeline)):
            writer.send(frame.tobytes())
    except BaseException:
        writer.close()
        scratch.unlink(missing_ok=True)
        raise
    writer.close()
    scratch.replace(path)


def _held(frames: Iterator[UInt8]) -> Iterator[UInt8]:
    last = None
    for frame in frames:
        yield from [frame] * (1 if last is not None else round(TITLE_S * FRAMES_PER_S))
        last = frame
    if last is not None:
        yield from [last] * round(END_S * FRAMES_PER_S)


def _frames(recording: Recording, instruction: str, views: Mapping[str, View], timeline: Image.Image) -> Iterator[UInt8]:
    running = {name: _Clocked(name, view) for name, view in views.items()}
    for time_ns in range(recording.started_ns, recording.ended_ns, 10**9 // FRAMES_PER_S):
        canvas = Image.new("RGB", SIZE, PAPER)
        draw = ImageDraw.Draw(canvas)
        _header(draw, instruction, recording, time_ns)
        canvas.paste(_fit(running["scene"].at(time_ns), SCENE_SIZE), (_MARGIN, _TOP))
        canvas.paste(_fit(running["wrist"].at(time_ns), WRIST_SIZE), (_RIGHT, _TOP))
        _status(draw, recording, time_ns)
        _strips(canvas, draw, recording, time_ns)
        canvas.paste(timeline, _TIMELINE[:2])
        share = (time_ns - recording.started_ns) / (recording.ended_ns - recording.started_ns)
        x = _TIMELINE[0] + share * timeline.width
        draw.line([(x, _TIMELINE[1]), (x, _TIMELINE[3])], fill=INK, width=2)
        yield np.asarray(canvas)


class _Clocked:
    """Walks through a view as time goes on."""

    def __init__(self, name: str, view: View) -> None:
        self._frames = iter(view)
        first = next(self._frames, None)
        if first is None:
            raise ValueError(f"the {name} view of the video shows nothing")
        self._now, self._next = first, next(self._frames, None)

    def at(self, time_ns: int) -> UInt8:
        while self._next is not None and self._next[0] <= time_ns:
            self._now, self._next = self._next, next(self._frames, None)
        return self._now[1]


@lru_cache(maxsize=8)
def _font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts/ttf" / name, size)


def _fit(image: UInt8, size: tuple[int, int]) -> Image.Image:
    picture = Image.fromarray(image)
    return picture if picture.size == size[::-1] else picture.resize(size[::-1], Image.Resampling.BICUBIC)


def _newest(items: list[Received[T]], time_ns: int) -> T | None:
    index = bisect_right(items, time_ns, key=lambda item: item.received_ns)
    return items[index - 1].value if index else None


def _header(draw: ImageDraw.ImageDraw, instruction: str, recording: Recording, time_ns: int) -> None:
    draw.text((_MARGIN, 12), f"“{instruction}”", INK, _font(20, bold=True))
    draw.text((SIZE[0] - _MARGIN, 14), f"{recording.since_start_s(time_ns):5.1f} s", INK, _font(18), anchor="ra")


def _status(draw: ImageDraw.ImageDraw, recording: Recording, time_ns: int) -> None:
    left, top = _RIGHT + WRIST_SIZE[1] + 16, _TOP
    width = SIZE[0] - _MARGIN - left
    state = _newest(recording.gate, time_ns)
    if state is None:
        draw.text((left, top), "no gate state yet", INK, _font(16))
        return
    score: dict[str, Any] = score_at(recording, time_ns)
    draw.text((left, top), "expert", INK, _font(14))
    draw.rounded_rectangle((left, top + 20, left + width, top + 60), 6, fill=EXPERT_COLOURS[state.expert])
    draw.text((left + 12, top + 28), state.expert.value if state.expert else "none", PAPER, _font(18, bold=True))
    draw.text((left, top + 72), f"gate: {state.phase.value}", INK, _font(14))
    draw.rectangle((left, top + 94, left + width, top + 112), outline=FAINT, fill="#f6f8fa")
    if not math.isnan(state.score):
        draw.rectangle((left, top + 94, left + round(width * state.score), top + 112), fill=INK)
        draw.text((left + width, top + 72), f"{state.score:.2f}", INK, _font(14), anchor="ra")
    stage = score.get("sub_stage") or state.sub_stage or "–"
    rows = [("status", state.status.name.lower()), ("stage", stage), ("score", f"{score.get('score', 0):.2f}")]
    for row, (label, text) in enumerate(rows):
        y = top + 130 + 48 * row
        draw.text((left, y), label, "#59636e", _font(13))
        draw.text((left, y + 18), _shortened(text, _font(16), width), INK, _font(16))


def _shortened(text: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    while font.getlength(text) > width:
        text = text.rstrip("…")[:-1] + "…"
    return text


def _strips(canvas: Image.Image, draw: ImageDraw.ImageDraw, recording: Recording, time_ns: int) -> None:
    """The newest imagination and, below, what the scene camera then really saw."""
    imagination, scene = _newest(recording.imaginations, time_ns), recording.pictures.get("scene", [])
    if imagination is None or not scene:
        return
    pair = compare(imagination, scene)
    pitch = (SIZE[0] - _MARGIN - _RIGHT) // len(STRIP_FRAMES)
    height = 82
    width = round(height * pair.imagined.shape[2] / pair.imagined.shape[1])
    for row, (label, colour, images) in enumerate((("imagined", IMAGINED, pair.imagined), ("came", CAME, pair.came))):
        top = _STRIP_TOP + row * (height + 24)
        for column, image in enumerate(images):
            ahead_s = STRIP_FRAMES[column] * imagination.frame_period_s
            x = _RIGHT + column * pitch
            draw.text((x, top), f"{label} +{ahead_s:.1f} s" if column else label, colour, _font(12))
            canvas.paste(_fit(image, (height, width)), (x, top + 18))


def _timeline(recording: Recording) -> Image.Image:
    """Gate score over time on the colour of the expert in charge; marks where the simulator's sub-stage changes."""
    width, height = _TIMELINE[2] - _TIMELINE[0], _TIMELINE[3] - _TIMELINE[1]
    image = Image.new("RGB", (width, height), "#f6f8fa")
    draw = ImageDraw.Draw(image)

    def x(time_ns: int) -> float:
        return (time_ns - recording.started_ns) / (recording.ended_ns - recording.started_ns) * width

    low, high = height - 6, 6
    for item, following in zip(recording.gate, [*recording.gate[1:], None], strict=True):
        end_ns = following.received_ns if following is not None else item.received_ns
        light = tuple(255 - (255 - c) * 2 // 5 for c in rgb(EXPERT_COLOURS[item.value.expert]))
        draw.rectangle((x(item.received_ns), 0, x(end_ns), height), fill=light)
    draw.line([(0, (low + high) / 2), (width, (low + high) / 2)], fill=FAINT)
    points = [(x(g.received_ns), low + (high - low) * g.value.score) for g in recording.gate if not math.isnan(g.value.score)]
    if len(points) > 1:
        draw.line(points, fill=INK, width=2)
    stage = None
    ends = [0.0] * 4  # of the last label in each row, from below
    for score in recording.scores:
        if score.value.get("sub_stage") != stage:
            stage = score.value.get("sub_stage")
            at, text = x(score.received_ns), _shortened(str(stage), _font(12), width // 2)
            row = next((row for row, end in enumerate(ends) if end <= at), len(ends) - 1)
            ends[row] = at + 4 + _font(12).getlength(text)
            draw.line([(at, 0), (at, height)], fill="#59636e")
            draw.text((at + 4, height - 32 - 16 * row), text, INK, _font(12))
    draw.text((4, 4), "gate score", INK, _font(12))
    return image

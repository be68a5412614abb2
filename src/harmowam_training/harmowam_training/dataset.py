"""Rollouts on disk (one safetensors file each) and in memory (one flat corpus with the rollouts' bounds)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from harmowam_core.files import replaced

if TYPE_CHECKING:
    from harmowam_sim.demonstrators import Rollout

ARRAYS = ("arm_positions", "openings", "commanded_openings", "positions", "orientations", "masked")


class DatasetError(ValueError):
    """A data set is missing or damaged; the message names the file and the remedy."""


def save_rollout(path: Path, rollout: Rollout, **metadata: str) -> None:
    """Write one rollout; complete or absent, never half."""
    tensors = {name: np.ascontiguousarray(getattr(rollout, name)) for name in ARRAYS}
    tensors["masked"] = tensors["masked"].astype(np.uint8)
    tensors |= {f"frames.{camera}": np.ascontiguousarray(frames) for camera, frames in rollout.frames.items()}
    facts = {
        "instructions": json.dumps(rollout.instructions),
        "kind": rollout.kind,
        "success": json.dumps(rollout.success),
    }
    with replaced(path) as part:
        save_file(tensors, part, facts | metadata)


@dataclass(frozen=True)
class Corpus:
    """All frames of some rollouts, in order. N frames, A arms. Where the instruction changes, another rollout begins.

    scene: (N, H, W, 3) uint8; wrists: (N, A, h, w, 3) uint8 or None where they were not recorded.
    position (N, A, 3) m, orientation (N, A, 4) xyzw, opening and commanded (N, A); masked (N,) bool: a frame nobody should imitate.
    first, last: (N,) bounds of the frame's rollout; rollout: (N,) its number; instructions, kinds: one a rollout.
    """

    scene: NDArray[np.uint8]
    wrists: NDArray[np.uint8] | None
    position: NDArray[np.float32]
    orientation: NDArray[np.float32]
    opening: NDArray[np.float32]
    commanded: NDArray[np.float32]
    masked: NDArray[np.bool_]
    first: NDArray[np.int64]
    last: NDArray[np.int64]
    rollout: NDArray[np.int64]
    instructions: tuple[str, ...]
    kinds: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.position)

    def later(self, frames: NDArray[np.int64], steps: int) -> NDArray[np.int64]:
        """Indices of the ``steps`` next frames (n, steps); the rollout's last frame repeats beyond its end."""
        return np.minimum(frames[:, None] + np.arange(1, steps + 1), self.last[frames][:, None])

    def unmasked_ahead(self, frames: NDArray[np.int64], steps: int) -> NDArray[np.bool_]:
        """(n, steps): True up to the first masked frame at or after the current one."""
        window = np.concatenate([frames[:, None], self.later(frames, steps)], 1)
        return ~(np.cumsum(self.masked[window], 1) > 0)[:, 1:]

    def bounds(self) -> list[tuple[int, int]]:
        """(first, last) of each rollout."""
        starts = np.flatnonzero(self.first == np.arange(len(self)))
        return [(int(s), int(self.last[s])) for s in starts]

    def digest(self) -> str:
        """What it holds, in hexadecimal: all of it but images, of which a sample has to do."""
        digest = hashlib.sha256(repr((len(self), self.instructions, self.kinds)).encode())
        for array in (self.position, self.orientation, self.opening, self.commanded, self.masked, self.rollout, self.scene[::101]):
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    def frames_of_kind(self, kinds: Iterable[str]) -> NDArray[np.int64]:
        """Frames of rollouts of these kinds."""
        wanted = np.array([k in set(kinds) for k in self.kinds])
        return np.flatnonzero(wanted[self.rollout])


def load_corpus(paths: Sequence[Path]) -> Corpus:
    """Read rollouts into one corpus; DatasetError names a damaged file."""
    if not paths:
        raise DatasetError("no rollouts; run `harmowam train --stage collect`")
    columns: dict[str, list[NDArray]] = {name: [] for name in (*ARRAYS, "scene", "wrists")}
    facts: list[dict[str, str]] = []
    for path in paths:
        try:
            with safe_open(path, "np") as file:
                facts.append(dict(file.metadata()))
                for name in ARRAYS:
                    columns[name].append(file.get_tensor(name))
                columns["scene"].append(file.get_tensor("frames.scene"))
                wrists = sorted(k for k in file.keys() if k.startswith("frames.wrist"))  # noqa: SIM118
                if wrists:
                    columns["wrists"].append(np.stack([file.get_tensor(name) for name in wrists], 1))
        except (SafetensorError, OSError) as error:
            raise DatasetError(f"rollout {path} is damaged ({error}); delete it and run `harmowam train --stage collect` again") from error
    lengths: list[int] = []
    instructions: list[str] = []
    kinds: list[str] = []
    for fact in facts:
        for instruction, frames in groupby(json.loads(fact["instructions"])):
            instructions.append(instruction)
            lengths.append(len(list(frames)))
            kinds.append(fact["kind"])
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    if columns["wrists"] and len(columns["wrists"]) != len(paths):
        raise DatasetError("some rollouts have wrist images and some have none; load them as separate corpora")
    return Corpus(
        scene=np.concatenate(columns["scene"]),
        wrists=np.concatenate(columns["wrists"]) if columns["wrists"] else None,
        position=np.concatenate(columns["positions"]).astype(np.float32),
        orientation=np.concatenate(columns["orientations"]).astype(np.float32),
        opening=np.concatenate(columns["openings"]).astype(np.float32),
        commanded=np.concatenate(columns["commanded_openings"]).astype(np.float32),
        masked=np.concatenate(columns["masked"]).astype(bool),
        first=np.repeat(starts, lengths),
        last=np.repeat(starts + lengths - 1, lengths),
        rollout=np.repeat(np.arange(len(lengths)), lengths),
        instructions=tuple(instructions),
        kinds=tuple(kinds),
    )


def split_paths(folder: Path, kinds: Iterable[str], validation_share: float) -> tuple[list[Path], list[Path]]:
    """Rollout files of these kinds, (training, validation): the last share of each kind is for validation."""
    training: list[Path] = []
    validation: list[Path] = []
    for kind in kinds:
        paths = sorted((folder / kind).glob("*.safetensors"))
        if not paths:
            raise DatasetError(f"no rollouts in {folder / kind}; run `harmowam train --stage collect`")
        held_out = max(round(len(paths) * validation_share), 1)
        training += paths[:-held_out]
        validation += paths[-held_out:]
    return training, validation

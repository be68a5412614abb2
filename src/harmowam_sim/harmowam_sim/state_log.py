"""What the simulator went through, small enough to keep: joint positions of everything, to render the episode again later."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


class StateLogError(ValueError):
    """A file is no state log, or one of another scene."""


@dataclass
class StateLog:
    """Moments of one episode: stamps, ns, and MuJoCo's qpos, with what laid the episode out."""

    task: str
    environment: str
    seed: int
    stamps_ns: list[int] = field(default_factory=list)
    qpos: list[NDArray[np.float64]] = field(default_factory=list)

    def add(self, stamp_ns: int, qpos: NDArray[np.float64]) -> None:
        """Keep one moment; ``qpos`` is copied."""
        self.stamps_ns.append(stamp_ns)
        self.qpos.append(np.array(qpos))

    def save(self, path: Path) -> None:
        """Write an .npz without pickled objects, whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = path.with_name(f".{path.name}.part")
        with scratch.open("wb") as file:
            np.savez_compressed(
                file,
                task=np.array(self.task),
                environment=np.array(self.environment),
                seed=np.array(self.seed),
                stamps_ns=np.array(self.stamps_ns, dtype=np.int64),
                qpos=np.array(self.qpos, dtype=np.float64),
            )
        scratch.replace(path)

    @classmethod
    def load(cls, path: Path) -> StateLog:
        """Read a log; StateLogError says what is wrong with the file."""
        try:
            with np.load(path, allow_pickle=False) as data:
                log = cls(
                    str(data["task"]), str(data["environment"]), int(data["seed"]), [int(s) for s in data["stamps_ns"]], list(data["qpos"])
                )
        except (OSError, KeyError, ValueError) as error:
            raise StateLogError(f"{path} is no state log of the simulated cell: {error}") from error
        if len(log.stamps_ns) != len(log.qpos):
            raise StateLogError(f"{path} holds {len(log.stamps_ns)} stamps for {len(log.qpos)} states")
        return log

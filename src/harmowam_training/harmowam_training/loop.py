"""The optimisation loop of every stage: progress, curves, checkpoints as safetensors, resume, exponential averaging."""

from __future__ import annotations

import csv
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from harmowam_core.checkpoints import CheckpointError
from harmowam_core.files import replaced
from harmowam_core.presets import CompactPreset
from harmowam_training.config import StageConfig
from harmowam_training.dataset import Corpus
from harmowam_training.kept_parts import weights_key
from harmowam_training.parallel import average_gradients, rank

CHECKPOINT_PERIOD_S = 120.0
LOG_EVERY = 25
WARM_UP = 80


@dataclass(frozen=True)
class Draws:
    """Chance, for one step: numpy's and torch's."""

    step: int
    rng: np.random.Generator
    generator: torch.Generator

    @classmethod
    def of(cls, seed: int, process: int = 0, step: int = 0) -> Draws:
        """What falls to a process at a step: the same however often a run was interrupted before it."""
        rng = np.random.default_rng([seed, process, step])
        return cls(step, rng, torch.Generator().manual_seed(int(rng.integers(2**63))))


class Averaged:
    """Exponential moving average of a module's floating-point state; decay rises to ``decay``."""

    def __init__(self, module: nn.Module, decay: float = 0.998) -> None:
        self.module, self.decay = module, decay
        self.state = {k: v.detach().clone() for k, v in module.state_dict().items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Move towards the module."""
        decay = min(self.decay, (step + 1) / (step + 10))
        for name, value in self.module.state_dict().items():
            if value.dtype.is_floating_point:
                self.state[name].lerp_(value, 1 - decay)
            else:
                self.state[name].copy_(value)


def make_optimizers(module: nn.Module, learning_rate: float, muon: Callable[[str], bool] | None = None) -> list[torch.optim.Optimizer]:
    """AdamW, and Muon for the matrices whose name ``muon`` accepts."""
    matrices: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for name, parameter in module.named_parameters():
        (matrices if muon is not None and parameter.ndim == 2 and muon(name) else rest).append(parameter)
    optimizers: list[torch.optim.Optimizer] = [torch.optim.AdamW(rest, learning_rate, betas=(0.9, 0.97), weight_decay=1e-3)]
    if matrices:
        optimizers.append(torch.optim.Muon(matrices, learning_rate, adjust_lr_fn="match_rms_adamw", weight_decay=1e-3))
    return optimizers


def _optimizer_tensors(optimizers: Iterable[torch.optim.Optimizer]) -> dict[str, Tensor]:
    tensors = {}
    for number, optimizer in enumerate(optimizers):
        for index, state in optimizer.state_dict()["state"].items():
            for key, value in state.items():
                tensors[f"optimizer.{number}.{index}.{key}"] = torch.as_tensor(value)
    return tensors


def _restore_optimizers(optimizers: list[torch.optim.Optimizer], tensors: dict[str, Tensor]) -> None:
    for number, optimizer in enumerate(optimizers):
        full, prefix = optimizer.state_dict(), f"optimizer.{number}."
        for name, value in tensors.items():
            if name.startswith(prefix):
                index, key = name.removeprefix(prefix).split(".", 1)
                full["state"].setdefault(int(index), {})[key] = value
        optimizer.load_state_dict(full)


def made_from(preset: CompactPreset, corpus: Corpus, *upstream: nn.Module) -> str:
    """What a stage's weights depend on besides its recipe and seed."""
    return weights_key(nn.ModuleList(upstream), preset.fingerprint(), corpus.digest())


def _checkpoint_path(folder: Path, name: str) -> Path:
    return folder / f"{name}.checkpoint.safetensors"


def steps_done(folder: Path, name: str) -> int:
    """How far the loop of this name has come; 0 without a checkpoint."""
    path = _checkpoint_path(folder, name)
    if not path.is_file():
        return 0
    with safe_open(path, "pt") as file:
        return int(file.get_tensor("step"))


class Loop:
    """Runs ``steps`` optimisation steps of ``loss()``; interrupted, it goes on from its last checkpoint as if it had not been.

    ``origin`` is what the stage is made from (see made_from). A checkpoint of another recipe, seed or origin is refused with
    CheckpointError.
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        module: nn.Module,
        config: StageConfig,
        seed: int,
        origin: str = "",
        *,
        muon: Callable[[str], bool] | None = None,
    ) -> None:
        self.name, self.folder, self.module = name, folder, module
        self.steps, self.learning_rate, self.seed = config.steps, config.learning_rate, seed
        self._made_with = {"recipe": config.model_dump_json(), "seed": str(seed), "made_from": origin}
        self.optimizers = make_optimizers(module, config.learning_rate, muon)
        self.average = Averaged(module)
        self.step = 0
        folder.mkdir(parents=True, exist_ok=True)
        self._checkpoint = _checkpoint_path(folder, name)
        if self._checkpoint.is_file():
            self._resume()

    def _resume(self) -> None:
        with safe_open(self._checkpoint, "pt") as file:
            stored = file.metadata() or {}
        other = [name.replace("_", " ") for name, value in self._made_with.items() if stored.get(name) != value]
        if other:
            raise CheckpointError(
                f"{self._checkpoint} is of another training ({', '.join(other)}); delete it to do stage {self.name} again, "
                "or train into another folder with --out"
            )
        tensors = load_file(self._checkpoint)
        self.step = int(tensors["step"])
        self.module.load_state_dict({k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")})
        self.average.state = {k.removeprefix("average."): v for k, v in tensors.items() if k.startswith("average.")}
        _restore_optimizers(self.optimizers, tensors)

    def save(self) -> None:
        """Write the checkpoint, by the first process; complete or unchanged, never torn."""
        if rank():
            return
        tensors = {"step": torch.tensor(self.step)} | _optimizer_tensors(self.optimizers)
        tensors |= {f"model.{k}": v for k, v in self.module.state_dict().items()}
        tensors |= {f"average.{k}": v for k, v in self.average.state.items()}
        with replaced(self._checkpoint) as part:
            save_file({k: v.detach().contiguous().clone() for k, v in tensors.items()}, part, self._made_with)

    def run(
        self, loss: Callable[[Draws], tuple[Tensor, dict[str, float]]], validate: Callable[[], dict[str, float]] | None = None
    ) -> nn.Module:
        """``loss(draws)`` returns the loss and figures to log; ``validate`` is called with averaged weights now and then.

        Whatever a loss leaves to chance comes from its draws, or from torch's own generator, which is seeded for each step.
        Returns the module with its averaged weights.
        """
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
        saved, validate_every = time.monotonic(), max(self.steps // 12 // LOG_EVERY, 1) * LOG_EVERY
        with Progress(*columns, refresh_per_second=0.5, disable=rank() > 0) as progress, self._log() as rows:
            bar = progress.add_task(self.name, total=self.steps, completed=self.step)
            while self.step < self.steps:
                self._set_learning_rate()
                draws = Draws.of(self.seed, rank(), self.step)
                torch.manual_seed(int(draws.rng.integers(2**63)))
                value, figures = loss(draws)
                if not torch.isfinite(value):
                    raise FloatingPointError(f"{self.name}: the loss is {value.item()} at step {self.step}; lower the learning rate")
                for optimizer in self.optimizers:
                    optimizer.zero_grad(set_to_none=True)
                value.backward()
                average_gradients(self.module)
                nn.utils.clip_grad_norm_(self.module.parameters(), 1.0)
                for optimizer in self.optimizers:
                    optimizer.step()
                self.average.update(self.step)
                self.step += 1
                if self.step % LOG_EVERY == 0 or self.step == self.steps:
                    due = validate is not None and rank() == 0 and (self.step % validate_every == 0 or self.step == self.steps)
                    checked = self._validated(validate) if validate and due else {}
                    rows(self.step, {"loss": value.item()} | figures | checked)
                    shown = " ".join(f"{k} {v:.4g}" for k, v in ({"loss": value.item()} | figures | checked).items())
                    progress.update(bar, completed=self.step, description=f"{self.name} {shown}")
                if time.monotonic() - saved > CHECKPOINT_PERIOD_S or self.step == self.steps:
                    self.save()
                    saved = time.monotonic()
        self.module.load_state_dict(self.average.state)
        return self.module

    def _validated(self, validate: Callable[[], dict[str, float]]) -> dict[str, float]:
        own = {k: v.clone() for k, v in self.module.state_dict().items()}
        self.module.load_state_dict(self.average.state)
        self.module.eval()
        with torch.no_grad():
            figures = validate()
        self.module.train()
        self.module.load_state_dict(own)
        return figures

    def _set_learning_rate(self) -> None:
        warm = min((self.step + 1) / WARM_UP, 1.0)
        decay = 1 - max(self.step - WARM_UP, 0) / self.steps
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = self.learning_rate * warm * max(decay, 0.02)

    def _log(self) -> _CurveLog:
        return _CurveLog(self.folder / f"{self.name}.csv")


class _CurveLog:
    """Long-format CSV: step, figure, value."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> Callable[[int, dict[str, float]], None]:
        fresh = not self._path.exists()
        self._file = self._path.open("a", newline="")
        writer = csv.writer(self._file)
        if fresh and rank() == 0:
            writer.writerow(["step", "figure", "value"])

        def write(step: int, figures: dict[str, float]) -> None:
            if rank():
                return
            writer.writerows([step, name, f"{value:.6g}"] for name, value in figures.items())
            self._file.flush()

        return write

    def __exit__(self, *_: object) -> None:
        self._file.close()

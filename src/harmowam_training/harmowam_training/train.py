"""``harmowam train``: from nothing to weights. Stages run in order; each resumes where it stopped and is skipped once done."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from contextlib import ExitStack
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from harmowam_core.files import replaced
from harmowam_core.results import commit
from harmowam_training.config import TrainingConfig, load_training_config

if TYPE_CHECKING:
    from harmowam_training.dataset import Corpus
    from harmowam_world_model.compact import WorldModelNetworks

console = Console(stderr=True)


class Stage(str, Enum):
    """The stages, in order."""

    COLLECT = "collect"
    AUTOENCODER = "autoencoder"
    GROUNDING = "grounding"
    WORLD_MODEL = "world_model"
    EXPERTS = "experts"
    REACTIVE = "reactive"
    GATE = "gate"


OPTIMISED = tuple(stage for stage in Stage if stage is not Stage.COLLECT)
PLAY = ("play",)
TASK_KINDS = ("demonstration_pick_fruit", "demonstration_stack_cans", "recovery_pick_fruit", "recovery_stack_cans")


class Run:
    """One training run in a folder: its recipe, its rollouts, its products."""

    def __init__(self, config: TrainingConfig, folder: Path, seed: int, workers: int) -> None:
        from harmowam_core.presets import load_preset

        self.config, self.folder, self.seed, self.workers = config, folder, seed, workers
        self.preset = load_preset(config.preset)
        self.rollouts, self.models = folder / "rollouts", folder / "models"

    def _corpora(self, kinds: tuple[str, ...]) -> tuple[Corpus, Corpus]:
        from harmowam_training.dataset import load_corpus, split_paths

        training, validation = split_paths(self.rollouts, kinds, self.config.collect.validation_share)
        console.print(f"reading {len(training)} rollouts, and {len(validation)} for validation")
        return load_corpus(training), load_corpus(validation)

    def collect(self) -> None:
        """Generate rollouts."""
        from harmowam_training.collect import collect

        tally = collect(self.config.collect, self.rollouts, self.workers)
        why = (
            f"; why, is in {self.rollouts}/*/*.failed, and a failed one is not tried again while that file is there" if tally.failed else ""
        )
        console.print(f"{tally.stored} of {tally.wanted} rollouts stored, {tally.failed} failed{why}")

    def autoencoder(self) -> None:
        """World model, part one."""
        from harmowam_training.stage1 import train_autoencoder

        train_autoencoder(self.preset, self.config.autoencoder, self._corpora(PLAY + TASK_KINDS)[0], self.models, self.seed)

    def grounding(self) -> None:
        """World model, part two."""
        from harmowam_training.stage1 import train_grounding

        training, validation = self._corpora(PLAY + TASK_KINDS)
        train_grounding(self.preset, self.config.grounding, training, validation, self.models, self.seed)

    def world_model(self) -> None:
        """World model, part three."""
        from harmowam_training.stage1 import train_world_model

        training, validation = self._corpora(PLAY + TASK_KINDS)
        train_world_model(self.preset, self.config.world_model, training, validation, self.models, self.seed)

    def _trained_world_model(self) -> WorldModelNetworks:
        from harmowam_core.checkpoints import load_checkpoint
        from harmowam_world_model import WEIGHTS_FILE
        from harmowam_world_model.compact import WorldModelNetworks

        networks = WorldModelNetworks(self.preset)
        load_checkpoint(self.models / WEIGHTS_FILE, networks, self.preset)
        return networks

    def experts(self) -> None:
        """Both experts and the gate, the world model frozen."""
        from harmowam_training.stage2 import train_experts

        networks = self._trained_world_model()
        training, validation = self._corpora(PLAY + TASK_KINDS)
        train_experts(self.preset, self.config.experts, networks, training, validation, self.models, self.seed)

    def reactive(self) -> None:
        """The reactive expert once more, alone and on more play."""
        from harmowam_training.stage2 import train_reactive

        networks = self._trained_world_model()
        training, validation = self._corpora(PLAY + TASK_KINDS)
        train_reactive(self.preset, self.config.reactive, networks, training, validation, self.models, self.seed)

    def gate(self) -> None:
        """The gate once more, alone and longer."""
        from harmowam_training.stage2 import train_gate

        training, validation = self._corpora(PLAY + TASK_KINDS)
        train_gate(self.preset, self.config.gate, training, validation, self.models, self.seed)

    def facts(self) -> dict[str, Any]:
        """What was noted of the stages so far; ValueError names a damaged file."""
        path = self.folder / "training.json"
        try:
            return dict(json.loads(path.read_text())) if path.is_file() else {}
        except (ValueError, TypeError) as error:
            raise ValueError(f"{path} is damaged ({error}); mend it, or delete it to lose what it says of earlier stages") from error

    def done(self, stage: Stage) -> bool:
        """Whether nothing is left to do of a stage."""
        from harmowam_training.collect import missing_jobs
        from harmowam_training.loop import steps_done

        if stage is Stage.COLLECT:
            return not missing_jobs(self.config.collect, self.rollouts)
        return steps_done(self.models, stage.value) >= getattr(self.config, stage.value).steps

    def record(self, stage: Stage, seconds: float) -> None:
        """Note how long a stage took, and with what."""
        path, facts = self.folder / "training.json", self.facts()
        hours = facts.get(stage.value, {}).get("hours", 0.0) + seconds / 3600
        recipe = getattr(self.config, stage.value).model_dump()
        facts[stage.value] = {"seed": self.seed, "commit": commit(), "recipe": recipe, "hours": round(hours, 3)}
        with replaced(path) as part:
            part.write_text(json.dumps(facts, indent=1) + "\n")

    def install(self) -> None:
        """Copy the weights to where the preset looks for them: all, or none if a stage is unfinished or a file does not fit.

        CheckpointError names the stage or file.
        """
        from harmowam_core.checkpoints import CheckpointError, load_checkpoint
        from harmowam_experts import PREDICTIVE_FILE, REACTIVE_FILE
        from harmowam_experts.predictive import PredictiveNetwork
        from harmowam_experts.reactive import ReactiveNetwork
        from harmowam_gate.gate_network import GATE_FILE, GateNetwork
        from harmowam_training.loop import steps_done
        from harmowam_world_model import WEIGHTS_FILE
        from harmowam_world_model.compact import WorldModelNetworks

        for stage in OPTIMISED:
            if not self.done(stage):
                done, wanted = steps_done(self.models, stage.value), getattr(self.config, stage.value).steps
                raise CheckpointError(
                    f"nothing installed: stage {stage.value} in {self.models} has done {done} of {wanted} steps; run `harmowam train`"
                )
        networks = {
            WEIGHTS_FILE: WorldModelNetworks,
            PREDICTIVE_FILE: PredictiveNetwork,
            REACTIVE_FILE: ReactiveNetwork,
            GATE_FILE: GateNetwork,
        }
        for name, network in networks.items():
            load_checkpoint(self.models / name, network(self.preset), self.preset)
        target = self.preset.weights_dir()
        with ExitStack() as together:  # every copy is complete before the first takes its place
            for part, name in [(together.enter_context(replaced(target / name)), name) for name in networks]:
                shutil.copyfile(self.models / name, part)
        console.print(f"weights installed in {target}")


def _optimise(run: Run, stage: Stage) -> None:
    """One process of a stage."""
    steps: dict[Stage, Callable[[], None]] = {
        Stage.AUTOENCODER: run.autoencoder,
        Stage.GROUNDING: run.grounding,
        Stage.WORLD_MODEL: run.world_model,
        Stage.EXPERTS: run.experts,
        Stage.REACTIVE: run.reactive,
        Stage.GATE: run.gate,
    }
    steps[stage]()


def train(
    only: Annotated[list[Stage] | None, typer.Option("--stage", help="run only these stages (repeat the option)")] = None,
    recipe: Annotated[Path | None, typer.Option(help="training recipe (YAML); default: the compact one")] = None,
    out: Annotated[Path, typer.Option(help="folder of rollouts, checkpoints and curves")] = Path("data"),
    seed: Annotated[int, typer.Option(min=0, help="seed of all stages")] = 0,
    workers: Annotated[int, typer.Option(min=1, help="processes; one a core")] = 2,
    install: Annotated[bool, typer.Option(help="afterwards copy the weights into the preset's folder")] = False,
) -> None:
    """Train the compact preset: generate data, stage 1 (world model), stage 2 (experts and gate). Interrupted, it resumes."""
    from harmowam_training.parallel import run_parallel

    run = Run(load_training_config(recipe), out, seed, workers)
    run.facts()  # damaged, it is better known now than after hours
    for stage in Stage:
        if only and stage not in only:
            continue
        console.rule(stage.value)
        started, before = time.monotonic(), run.done(stage)
        if stage is Stage.COLLECT:
            run.collect()
        else:
            run_parallel(_optimise, workers, run, stage)
        if not before:
            run.record(stage, time.monotonic() - started)
    if install:
        run.install()

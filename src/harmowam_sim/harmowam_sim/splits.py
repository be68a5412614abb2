"""Which tasks, environments, starts and seeds there are; in a file of its own, so that ``--help`` needs no simulator."""

from __future__ import annotations

from typing import Literal, get_args

Start = Literal["home", "near_target", "near_goal"]

TASKS: tuple[str, ...] = ("pick_fruit", "stack_cans")
ENVIRONMENTS: tuple[str, ...] = ("in_domain", "background", "position", "objects")
STARTS: tuple[Start, ...] = get_args(Start)
EVALUATION_SEED_START = 1_000_000  # training takes seeds below it, evaluation seeds from it on

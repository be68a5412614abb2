"""How tasks are put into words: training templates, and held-out ones that only tests of paraphrases use."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

PICK_TEMPLATES: tuple[str, ...] = (
    "put {target} on {goal}",  # the canonical wording
    "put {target} onto {goal}",
    "place {target} on {goal}",
    "place {target} onto {goal}",
    "move {target} to {goal}",
    "move {target} onto {goal}",
    "pick up {target} and put it on {goal}",
    "pick up {target} and place it on {goal}",
    "take {target} and put it on {goal}",
    "set {target} on {goal}",
    "lay {target} on {goal}",
    "grab {target} and set it on {goal}",
    "bring {target} to {goal}",
    "please put {target} on {goal}",
)
HELD_OUT_PICK_TEMPLATES: tuple[str, ...] = (
    "could you transfer {target} over to {goal}",
    "i would like {target} to be on {goal}",
    "get {target} and drop it off on {goal}",
    "{target} belongs on {goal}, put it there",
    "now lift {target} and lower it onto {goal}",
)
STACK_TEMPLATES: tuple[str, ...] = (
    "stack {target} on {goal}",  # the canonical wording
    "stack {target} on top of {goal}",
    "stack {target} onto {goal}",
    "put {target} on top of {goal}",
    "place {target} on top of {goal}",
    "set {target} on top of {goal}",
    "pick up {target} and stack it on {goal}",
    "take {target} and stack it on top of {goal}",
    "pile {target} on {goal}",
    "move {target} on top of {goal}",
    "grab {target} and put it on top of {goal}",
    "build a stack with {target} on {goal}",
    "please stack {target} on {goal}",
)
HELD_OUT_STACK_TEMPLATES: tuple[str, ...] = (
    "could you balance {target} on {goal}",
    "make a tower: {target} goes on {goal}",
    "i want {target} standing on {goal}",
    "lift {target} and leave it on top of {goal}",
)
REACH_TEMPLATES: tuple[str, ...] = (
    "reach for {target}",
    "move the hand to {target}",
    "go to {target}",
    "reach towards {target}",
    "point at {target}",
    "bring the gripper over {target}",
)

TEMPLATES: dict[str, tuple[str, ...]] = {"pick_fruit": PICK_TEMPLATES, "stack_cans": STACK_TEMPLATES, "reach": REACH_TEMPLATES}
HELD_OUT_TEMPLATES: dict[str, tuple[str, ...]] = {"pick_fruit": HELD_OUT_PICK_TEMPLATES, "stack_cans": HELD_OUT_STACK_TEMPLATES}


@dataclass(frozen=True)
class Instruction:
    """An instruction and the words in it that name what to grasp and where to bring it ("" where it names no goal)."""

    text: str
    target_phrase: str
    goal_phrase: str


def instruct(
    task: str, target: str, goal: str = "", rng: np.random.Generator | None = None, *, plain_goal: bool = False, held_out: bool = False
) -> Instruction:
    """Words for ``task`` (a key of TEMPLATES) on objects named by colour and noun, such as "yellow banana".

    Without ``rng`` the canonical wording; with it, half the time canonical and else any template. ``plain_goal`` lets the
    goal sometimes go by its noun alone ("the plate"), for scenes with one of its kind. ``held_out`` takes wordings that
    training never sees. ValueError for an unknown task.
    """
    known = HELD_OUT_TEMPLATES if held_out else TEMPLATES
    if task not in known:
        raise ValueError(f"no instruction templates for '{task}'; known: {sorted(known)}")
    templates = known[task]
    index = 0 if rng is None or rng.random() < 0.5 else int(rng.integers(len(templates)))
    plain = plain_goal and (rng is None or rng.random() < 0.6)
    target_phrase = f"the {target}"
    goal_phrase = f"the {goal.split()[-1] if plain else goal}" if goal else ""
    return Instruction(templates[index].format(target=target_phrase, goal=goal_phrase), target_phrase, goal_phrase)

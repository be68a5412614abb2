"""Wordings: enough of them, held-out ones apart, phrases found in the text."""

import numpy as np
import pytest

from harmowam_sim.instructions import HELD_OUT_TEMPLATES, TEMPLATES, instruct
from harmowam_sim.splits import TASKS


@pytest.mark.parametrize("task", TASKS)
def test_templates_are_many_different_and_split(task: str) -> None:
    train, held_out = TEMPLATES[task], HELD_OUT_TEMPLATES[task]
    assert len(set(train)) == len(train) >= 12
    assert len(set(held_out)) == len(held_out) >= 4
    assert not set(train) & set(held_out)


def test_canonical_wording_names_objects_with_their_colour() -> None:
    assert instruct("pick_fruit", "yellow banana", "white plate", plain_goal=True).text == "put the yellow banana on the plate"
    assert instruct("stack_cans", "red can", "blue can").text == "stack the red can on the blue can"


@pytest.mark.parametrize("held_out", [False, True])
@pytest.mark.parametrize("task", TASKS)
def test_every_wording_contains_its_phrases(task: str, held_out: bool) -> None:
    rng = np.random.default_rng(0)
    texts = set()
    for _ in range(300):
        words = instruct(task, "red can", "blue can", rng, held_out=held_out)
        assert (words.target_phrase, words.goal_phrase) == ("the red can", "the blue can")
        assert words.text.count(words.target_phrase) == words.text.count(words.goal_phrase) == 1
        texts.add(words.text)
    assert len(texts) == len((HELD_OUT_TEMPLATES if held_out else TEMPLATES)[task])


def test_unknown_task_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"'juggle'.*pick_fruit"):
        instruct("juggle", "red can")

"""Remove any one limit, and a test fails: the tests are run again in a process of their own, without each limit of ``LIMITS`` in turn, and
without each that the arbiter asks of plans, or of what is published.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from test_limits_in_force import ASKED

from harmowam_gate.limits import LIMITS

MUTATE = """
import json, sys
import pytest
from harmowam_gate import mover
from harmowam_gate.limits import LIMITS, Limit, MotionFilter, Verdict

class Removed(Limit):
    def __init__(self, context): ...
    def check(self, motion): return Verdict()

class Failures:
    def __init__(self): self.names = []
    def pytest_runtest_logreport(self, report):
        if report.failed: self.names.append(report.nodeid.rpartition("::")[2])

limits_tests, arbiter_tests, stages = sys.argv[1], sys.argv[2], ("plan", "published")
found, stack = {"": []}, mover.stack

def run(*words):
    failures = Failures()
    pytest.main(["-q", "-p", "no:cacheprovider", "--no-header", "--tb=no", *words], plugins=[failures])
    return failures.names

def stack_without(name, stage):
    def stacked(context, without=()):
        filters = list(stack(context, without))
        limits = filters[stages.index(stage)].limits
        filters[stages.index(stage)] = MotionFilter([limit for limit in limits if type(limit) is not LIMITS[name]])
        return tuple(filters)
    return stacked

# What NaN does is asked of every limit alike; here, something of the limit's own has to fail.
for name, kept in list(LIMITS.items()):
    LIMITS[name] = Removed
    found[name] = run("-k", "not nan", limits_tests)
    LIMITS[name] = kept
    for stage in stages if kept.for_plans else stages[1:]:
        mover.stack = stack_without(name, stage)
        found[f"{name} of {stage}"] = run("-k", f"{stage}-{name}]", arbiter_tests)
    mover.stack = stack
found[""] = run("-k", "not nan", limits_tests) + run(arbiter_tests)
print("\\n" + json.dumps(found))
"""


@pytest.fixture(scope="module")
def failures() -> dict[str, list[str]]:
    """By the limit that is missing, and of what ("": none is), the tests that fail."""
    tests = [str(Path(__file__).with_name(name)) for name in ("test_limits.py", "test_limits_in_force.py")]
    run = subprocess.run([sys.executable, "-c", MUTATE, *tests], capture_output=True, text=True, timeout=250)
    [line] = [line for line in run.stdout.splitlines() if line.startswith('{"": ')]
    return json.loads(line)


def test_all_is_well_with_all_limits(failures: dict[str, list[str]]) -> None:
    assert failures[""] == []


@pytest.mark.parametrize("name", LIMITS)
def test_a_missing_limit_is_noticed(failures: dict[str, list[str]], name: str) -> None:
    assert set(failures[name]) - set(failures[""]), f"no test fails without the limit '{name}'"


@pytest.mark.parametrize(("stage", "name"), ASKED)
def test_a_limit_that_the_arbiter_does_not_ask_is_noticed(failures: dict[str, list[str]], stage: str, name: str) -> None:
    assert failures[f"{name} of {stage}"], f"no test fails where the arbiter does not ask the limit '{name}' of {stage} motions"

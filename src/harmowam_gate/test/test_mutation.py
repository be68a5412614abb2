"""Remove any one limit, and a test fails: the tests of the limits are run again without each in turn, in a process of their own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from harmowam_gate.limits import LIMITS

MUTATE = """
import json, sys
import pytest
from harmowam_gate.limits import LIMITS, Limit, Verdict

class Removed(Limit):
    def __init__(self, context): ...
    def check(self, motion): return Verdict()

class Failures:
    def __init__(self): self.names = []
    def pytest_runtest_logreport(self, report):
        if report.failed: self.names.append(report.nodeid.rpartition("::")[2])

found = {}
for name in [None, *LIMITS]:
    failures, kept = Failures(), LIMITS.get(name)
    if name is not None:
        LIMITS[name] = Removed
    # What NaN does is asked of every limit alike; here, something of the limit's own has to fail.
    pytest.main(["-q", "-p", "no:cacheprovider", "--no-header", "--tb=no", "-k", "not nan", sys.argv[1]], plugins=[failures])
    found[name or ""] = failures.names
    if name is not None:
        LIMITS[name] = kept
print("\\n" + json.dumps(found))
"""


@pytest.fixture(scope="module")
def failures() -> dict[str, list[str]]:
    """By the limit that is missing ("": none is), the tests that fail."""
    tests = Path(__file__).with_name("test_limits.py")
    run = subprocess.run([sys.executable, "-c", MUTATE, str(tests)], capture_output=True, text=True, timeout=250)
    [line] = [line for line in run.stdout.splitlines() if line.startswith('{"": ')]
    return json.loads(line)


def test_all_is_well_with_all_limits(failures: dict[str, list[str]]) -> None:
    assert failures[""] == []


@pytest.mark.parametrize("name", LIMITS)
def test_a_missing_limit_is_noticed(failures: dict[str, list[str]], name: str) -> None:
    assert set(failures[name]) - set(failures[""]), f"no test fails without the limit '{name}'"

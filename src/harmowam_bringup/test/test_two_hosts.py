"""The models on another host: real network namespaces with a link between them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from harmowam_bringup.faults.models import MODELS_MAX_AGE_S
from harmowam_bringup.faults.two_hosts import ADD_NETEM, NAMESPACES, SET_UP, why_not


def two_hosts(folder: Path, what: str) -> dict[str, Any]:
    command = [*NAMESPACES, sys.executable, "-m", "harmowam_bringup.faults.two_hosts", str(folder), what]
    run = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert run.returncode == 0, run.stderr[-2000:]
    return json.loads(run.stdout.splitlines()[-1])


def test_a_cut_link_holds_the_arm_until_it_is_mended(tmp_path: Path) -> None:
    if reason := why_not():
        pytest.skip(f"this machine allows no network namespaces: {reason}")
    seen = two_hosts(tmp_path, "cut")
    assert seen["held"] is not None and seen["held"].startswith("HOLDING"), seen
    # Row 16: never on data past their age, and at most 100 ms after the age limit.
    assert seen["after_last_observation_s"] <= MODELS_MAX_AGE_S + 0.1, seen
    assert not seen["moved_meanwhile"] and not seen["latched"] and seen["goes_on"], seen
    assert seen["auditor"]["trajectories"] > 0 and seen["auditor"]["violations"] == 0, seen


def test_loss_and_delay_stop_nothing_for_good(tmp_path: Path) -> None:
    if reason := why_not(SET_UP + ADD_NETEM):
        pytest.skip(f"this machine's kernel cannot lose and delay packets (tc netem): {reason}")
    seen = two_hosts(tmp_path, "netem")
    assert seen["moving_share"] > 0.5 and not seen["latched"], seen
    assert seen["auditor"]["trajectories"] > 0 and seen["auditor"]["violations"] == 0, seen

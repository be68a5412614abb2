"""Each mode of the relay on made-up messages and times; no ROS."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harmowam_bringup.drill.channel import PASS, Channel, Fault
from harmowam_bringup.drill.garbage import Garbage
from harmowam_bringup.drill.modes import BURST_PERIOD_S, GAP_S, MODES, Forge

START_S = 100.0


@dataclass(frozen=True)
class Message:
    """``content`` is its number when it was made; ``stamp`` likewise."""

    content: int
    stamp: int
    spoilt: str = ""


def garble(message: Message, kind: Garbage | None, random: np.random.Generator) -> Message:
    return Message(message.content, message.stamp, f"{kind} {random.integers(1000)}")


FORGE: Forge[Message] = Forge(lambda old, fresh: Message(old.content, fresh.stamp), garble)
GAPS = st.lists(st.floats(0.02, 0.3), min_size=1, max_size=60)


def relay(fault: Fault, gaps: list[float], before: int = 0, seed: int = 0) -> list[tuple[float, Message]]:
    """(sent_s, message) of all that comes out after the fault is set; ``before`` messages pass first. Messages count from 0."""
    channel = Channel(FORGE, seed)
    for number in range(-before, 0):
        channel.put(Message(number, number), START_S + number)
        assert channel.take(START_S + number) == [Message(number, number)]
    channel.set(fault, START_S)
    arrivals = START_S + np.cumsum(gaps)
    sent: list[tuple[float, Message]] = []

    def run_until(end_s: float, now_s: float) -> None:
        while now_s < end_s:
            sent.extend((now_s, message) for message in channel.take(now_s))
            now_s += 0.005

    now_s = START_S
    for number, arrival_s in enumerate(arrivals):
        run_until(arrival_s, now_s)
        channel.put(Message(number, number), now_s := float(arrival_s))
        sent.extend((now_s, message) for message in channel.take(now_s))
    run_until(now_s + 1.0, now_s)
    return sent


def numbers(sent: list[tuple[float, Message]]) -> list[int]:
    return [message.content for _, message in sent]


def whole(gaps: list[float]) -> list[int]:
    return list(range(len(gaps)))


@given(GAPS)
def test_pass_changes_nothing(gaps: list[float]) -> None:
    sent = relay(PASS, gaps)
    assert [message for _, message in sent] == [Message(n, n) for n in whole(gaps)]
    assert [at for at, _ in sent] == pytest.approx(START_S + np.cumsum(gaps))


@given(GAPS)
def test_off_is_silence(gaps: list[float]) -> None:
    assert relay(Fault("off"), gaps, before=2) == []


@given(GAPS, st.integers(0, 3))
def test_stuck_repeats_the_last_content_with_fresh_stamps_at_the_same_rate(gaps: list[float], before: int) -> None:
    sent = relay(Fault("stuck"), gaps, before)
    assert [message.stamp for _, message in sent] == whole(gaps)
    assert set(numbers(sent)) == {-1 if before else 0}


@given(GAPS, st.sampled_from([0, *Garbage]), st.integers(0, 9))
def test_garbage_spoils_every_message_the_same_way_each_time(gaps: list[float], kind: int, seed: int) -> None:
    sent = relay(Fault("garbage", kind), gaps, seed=seed)
    assert numbers(sent) == whole(gaps) and all(message.spoilt for _, message in sent)
    assert sent == relay(Fault("garbage", kind), gaps, seed=seed)
    assert all(message.spoilt.startswith(f"{Garbage(kind) if kind else None} ") for _, message in sent)


@given(GAPS, st.floats(0.2, 30.0))
def test_slow_keeps_to_its_rate(gaps: list[float], rate_hz: float) -> None:
    sent = relay(Fault("slow", rate_hz), gaps)
    assert numbers(sent) == sorted(set(numbers(sent)))
    assert len(sent) <= sum(gaps) * rate_hz + 1e-6
    assert len(sent) >= math.floor(sum(gaps) / max(1 / rate_hz, *gaps)) - 1  # as fast as it may where something comes


@given(GAPS, st.floats(0.02, 0.9))
def test_delayed_is_everything_by_so_much_later(gaps: list[float], delay_s: float) -> None:
    sent = relay(Fault("delayed", delay_s), gaps)
    assert numbers(sent) == whole(gaps)
    late_s = np.array([at for at, _ in sent]) - START_S - np.cumsum(gaps)
    assert (late_s >= delay_s - 1e-6).all() and (late_s <= delay_s + 0.006).all()


@given(GAPS, st.floats(0.05, 0.95))
def test_intermittent_loses_its_share_of_every_period(gaps: list[float], share: float) -> None:
    arrivals = np.cumsum(gaps)
    phases = arrivals % BURST_PERIOD_S / BURST_PERIOD_S
    sent = numbers(relay(Fault("intermittent", share), gaps))
    clear = np.abs(phases - share) > 1e-6  # of rounding
    assert set(sent) & set(np.flatnonzero(clear)) == set(np.flatnonzero(clear & (phases >= share)))


@given(GAPS, st.integers(1, 10))
def test_duplicated_sends_each_message_once_and_its_copies(gaps: list[float], copies: int) -> None:
    sent = relay(Fault("duplicated", copies), gaps)
    assert sorted(numbers(sent)) == sorted(whole(gaps) * (copies + 1))
    first = [at for number in whole(gaps) for at in [next(at for at, message in sent if message.content == number)]]
    assert first == pytest.approx(START_S + np.cumsum(gaps))


@given(st.integers(1, 60), st.integers(1, 10))
def test_reordered_brings_old_messages_after_newer_ones(count: int, overtaking: int) -> None:
    sent = numbers(relay(Fault("reordered", overtaking), [2 * GAP_S] * count))
    groups = [list(range(start, start + overtaking + 1)) for start in range(0, count, overtaking + 1)]
    expected = [number for group in groups for number in [*group[1:], group[0]] if number < count]
    held = [groups[-1][0]] if groups[-1][-1] >= count else []  # whom nobody has overtaken yet
    assert sent == [number for number in expected if number not in held]


def test_a_fault_ends_by_itself_and_what_it_held_back_is_lost() -> None:
    sent = relay(Fault("delayed", 0.25, duration_s=1.0), [0.1] * 20)
    assert numbers(sent) == [*range(8), *range(10, 20)] or numbers(sent) == [*range(7), *range(9, 20)]
    assert relay(Fault("off", duration_s=0.55), [0.1] * 10)[0][1].content == 5


def test_a_channel_waits_only_while_time_matters() -> None:
    channel = Channel(FORGE)
    assert not channel.waits and not channel.heard
    channel.set(Fault("off"), 0.0)
    assert not channel.waits
    channel.set(Fault("off", duration_s=1.0), 0.0)
    assert channel.waits and channel.fault.mode == "off"
    assert channel.take(1.0) == [] and channel.fault == PASS and not channel.waits
    channel.set(Fault("delayed", 0.5), 1.0)
    channel.put(Message(0, 0), 1.0)
    assert channel.waits and channel.heard
    channel.set(PASS, 1.1)
    assert channel.take(9.0) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("wobbly",), "unknown mode 'wobbly'; known: pass, off, stuck, garbage, slow, delayed, intermittent, duplicated, reordered"),
        (("off", 1.0), "value is 1; off takes none"),
        (("delayed", 11.0), "value is 11; delayed takes a number from 0.001 to 10: delay, s"),
        (("delayed", math.nan), "value is nan; delayed"),
        (("slow", -1.0), "value is -1; slow takes a number from 0.01 to 1000: messages a second"),
        (("duplicated", 1.5), "value is 1.5; duplicated takes a whole number from 1 to 10"),
        (("garbage", 5.0), "value is 5; garbage takes a whole number from 0 to 4: 1 NaN or infinity"),
        (("off", 0.0, -1.0), "duration_s is -1, expected a time"),
        (("off", 0.0, math.nan), "duration_s is nan"),
        (("off", 0.0, math.inf), "duration_s is inf"),
    ],
)
def test_refusals_say_what_there_is(words: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Fault(*words)


def test_every_mode_is_described() -> None:
    assert all(mode.does and str(Fault(name)).startswith(name) for name, mode in MODES.items())
    assert str(Fault("delayed", duration_s=2)) == "delayed 0.5 (delay, s) for 2 s"

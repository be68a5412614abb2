"""Health: rates, ages, percentiles and faults of one node."""

import pytest

from harmowam_core.health import Health, Level


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


def run_events(health: Health, clock: Clock, rate_hz: float, count: int) -> None:
    for _ in range(count):
        clock.now_s += 1 / rate_hz
        health.event("image")


@pytest.mark.parametrize("rate_hz", [0.5, 10.0, 400.0])
def test_rate_is_events_a_second(clock: Clock, rate_hz: float) -> None:
    health = Health(window_s=10.0, samples=500, clock=clock)
    run_events(health, clock, rate_hz, count=1200)
    assert health.rate_hz("image") == pytest.approx(rate_hz, rel=0.25 if rate_hz < 1 else 0.02)


def test_rate_falls_to_zero_and_age_grows_when_events_stop(clock: Clock) -> None:
    health = Health(window_s=10.0, clock=clock)
    run_events(health, clock, 10.0, count=50)
    clock.now_s += 11
    assert health.rate_hz("image") == 0
    assert health.summary().values["image age (s)"] == "11.000"
    assert health.rate_hz("never seen") == 0


def test_latency_percentiles_are_in_milliseconds(clock: Clock) -> None:
    health = Health(clock=clock)
    for k in range(101):
        health.latency("imagine", k / 1000)
    values = health.summary().values
    assert (values["imagine p50 (ms)"], values["imagine p95 (ms)"], values["imagine p99 (ms)"]) == ("50.0", "95.0", "99.0")


def test_old_latencies_are_forgotten(clock: Clock) -> None:
    health = Health(samples=10, clock=clock)
    health.latency("imagine", 60.0)
    for _ in range(10):
        health.latency("imagine", 0.001)
    assert health.summary().values["imagine p99 (ms)"] == "1.0"


def test_worst_fault_gives_the_level_and_all_are_told(clock: Clock) -> None:
    health = Health(clock=clock)
    assert (health.summary().level, health.summary().message) == (Level.OK, "ok")
    health.fault("camera", "scene is 3 s old", Level.WARN)
    health.fault("model", "out of memory")
    summary = health.summary()
    assert summary.level == Level.ERROR
    assert "scene is 3 s old" in summary.message and "out of memory" in summary.message
    health.clear("model")
    assert health.summary().level == Level.WARN
    health.clear("camera")
    health.clear("camera")
    assert health.summary().message == "ok"


def test_what_is_expected_and_slow_is_a_warning(clock: Clock) -> None:
    health = Health(clock=clock)
    health.expect("image", 4.0)
    assert health.summary().level == Level.OK  # it may take its time to begin
    clock.now_s += 2.0
    assert (health.summary().level, health.summary().message) == (Level.WARN, "image: none yet")
    for _ in range(8):
        clock.now_s += 0.2
        health.event("image")
    assert health.summary().message == "ok"
    for _ in range(4):
        clock.now_s += 0.5
        health.event("image")
    assert health.summary().message == "image: 2.5 Hz, expected at least 4"
    clock.now_s += 3.0
    assert health.summary().message == "image: the last one came 3.0 s ago"
    health.no_longer_expect("image")
    assert health.summary().level == Level.OK


def test_what_is_expected_seldom_is_judged_over_longer(clock: Clock) -> None:
    health = Health(clock=clock)
    health.expect("verdict", 0.1)
    health.event("verdict")
    clock.now_s += 15.0
    assert health.summary().level == Level.WARN and "0.05 Hz" in health.summary().message
    health.event("verdict")
    assert health.summary().level == Level.OK


def test_a_window_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="window_s is 0"):
        Health(window_s=0)


def test_a_value_is_what_was_said_last() -> None:
    health = Health(clock=lambda: 0.0)
    health.value("frames", 5)
    health.value("frames", 7)
    health.value("drift (ppm)", 12.25)
    assert health.summary().values == {"frames": "7", "drift (ppm)": "12.25"}

"""Settings of all tests."""

import gc

from hypothesis import settings

# Examples are not timed: on a busy machine any of them may take long, and pytest-timeout ends what hangs.
settings.register_profile("harmowam", deadline=None)
settings.load_profile("harmowam")


def pytest_runtest_logfinish() -> None:
    """What active nodes put aside for good goes with their test: participants of DDS would stay, with their threads and sockets."""
    if gc.get_freeze_count():
        gc.unfreeze()
        gc.collect()

"""Settings of all tests."""

import gc

from hypothesis import settings

# Examples are not timed: on a busy machine any of them may take long, and pytest-timeout ends what hangs.
settings.register_profile("harmowam", deadline=None)
settings.load_profile("harmowam")


def pytest_unconfigure() -> None:
    """What active nodes put aside for good goes, too; or the bindings of ruckig call it leaked."""
    gc.unfreeze()
    gc.collect()

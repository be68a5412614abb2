"""Settings of all tests."""

from hypothesis import settings

# Examples are not timed: on a busy machine any of them may take long, and pytest-timeout ends what hangs.
settings.register_profile("harmowam", deadline=None)
settings.load_profile("harmowam")

"""Faults on purpose: a relay that stands between publishers and subscribers, and the command that tells it what to break."""

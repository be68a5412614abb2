"""The fault catalogue: every fault that the stack has to survive, injected into real processes, timed and judged (docs/faults.md)."""

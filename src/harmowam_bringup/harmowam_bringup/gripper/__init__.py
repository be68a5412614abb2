"""Grippers whose drivers take actions: told by the arbiter's trajectories, their fingers joined to the arms' joint states."""

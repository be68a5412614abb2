"""The simulated cell: physics, cameras, tasks, demonstrators and the node that looks like the real thing."""

import os

# MuJoCo chooses its OpenGL library when it is first imported, so this must come before; one rasteriser thread a process
# leaves the other cores to the policy.
os.environ.setdefault("MUJOCO_GL", "egl")
os.environ.setdefault("LP_NUM_THREADS", "1")

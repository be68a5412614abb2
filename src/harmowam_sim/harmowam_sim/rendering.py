"""Off-screen pictures of a MuJoCo model at any size, from one OpenGL context."""

from __future__ import annotations

import mujoco
import numpy as np
from mujoco.gl_context import GLContext
from numpy.typing import NDArray


class OffscreenRenderer:
    """Renders the cameras of one model. Close it: OpenGL contexts are not garbage collected safely."""

    def __init__(self, model: mujoco.MjModel) -> None:
        self._model = model
        self._gl = GLContext(1, 1)
        self._gl.make_current()
        self._context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_50)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._context)
        self._scene = mujoco.MjvScene(model, maxgeom=500)
        self._scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = False
        self._option = mujoco.MjvOption()
        self._camera = mujoco.MjvCamera()
        self._camera.type = mujoco.mjtCamera.mjCAMERA_FIXED

    def render(self, data: mujoco.MjData, camera: str, size: tuple[int, int], *, shadows: bool) -> NDArray[np.uint8]:
        """(H, W, 3) uint8 RGB of ``camera`` at ``size`` = (height, width)."""
        self._gl.make_current()
        height, width = max(size[0], self._context.offHeight), max(size[1], self._context.offWidth)
        if (height, width) != (self._context.offHeight, self._context.offWidth):
            # Clearing costs the whole buffer, so it is only as large as the largest picture so far.
            mujoco.mjr_resizeOffscreen(width, height, self._context)
        self._camera.fixedcamid = self._model.camera(camera).id
        self._scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = shadows
        mujoco.mjv_updateScene(self._model, data, self._option, None, self._camera, mujoco.mjtCatBit.mjCAT_ALL, self._scene)
        area = mujoco.MjrRect(0, 0, size[1], size[0])
        mujoco.mjr_render(area, self._scene, self._context)
        image = np.empty((*size, 3), dtype=np.uint8)
        mujoco.mjr_readPixels(image, None, area, self._context)
        return np.ascontiguousarray(image[::-1])  # OpenGL's rows go up

    def close(self) -> None:
        """Free the OpenGL context."""
        self._gl.make_current()
        self._context.free()
        self._gl.free()

"""Camera images to model images: centre crop to the aspect, then area resize. The same for live, simulated and recorded."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray


def crop_box(height: int, width: int, out_height: int, out_width: int) -> tuple[int, int, int, int]:
    """Largest centred (top, left, height, width) of an image with the aspect of the output."""
    crop_height = min(height, round(width * out_height / out_width))
    crop_width = min(width, round(height * out_width / out_height))
    return (height - crop_height) // 2, (width - crop_width) // 2, crop_height, crop_width


def prepare_image(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB of any size to ``size`` = (height, width)."""
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(f"expected an (H, W, 3) uint8 RGB image, got {image.dtype} {image.shape}")
    height, width = image.shape[:2]
    if height < size[0] or width < size[1]:
        raise ValueError(f"camera image is {width}x{height}, smaller than the model's {size[1]}x{size[0]}; raise the camera's resolution")
    if (height, width) == tuple(size):
        return image
    top, left, crop_height, crop_width = crop_box(height, width, *size)
    cropped = image[top : top + crop_height, left : left + crop_width]
    return np.ascontiguousarray(cv2.resize(cropped, (size[1], size[0]), interpolation=cv2.INTER_AREA), dtype=np.uint8)

"""Pixels of image messages, held to written-down bytes (what sensor_msgs/Image says of them) and, where installed, to cv_bridge."""

from __future__ import annotations

import importlib.util
import sys
from array import array
from types import ModuleType

import numpy as np
import pytest
from sensor_msgs.msg import Image

from harmowam_core import image_codec
from harmowam_core.image_codec import ENCODINGS, decoder_in_use, pixels, samples
from harmowam_core.messages import depth_to_message, image_from_message
from harmowam_core.stages import StageError

FIVE = "ee ee ee ee ee"  # of padding: no whole number of pixels
WRITTEN = {  # encoding, big-endian: the bytes of two rows of two pixels, and what they mean
    ("rgb8", False): ("01 02 03 0a 0b 0c", "04 05 06 0d 0e 0f", [[[1, 2, 3], [10, 11, 12]], [[4, 5, 6], [13, 14, 15]]]),
    ("rgb8", True): ("01 02 03 0a 0b 0c", "04 05 06 0d 0e 0f", [[[1, 2, 3], [10, 11, 12]], [[4, 5, 6], [13, 14, 15]]]),
    ("bgr8", False): ("03 02 01 0c 0b 0a", "06 05 04 0f 0e 0d", [[[3, 2, 1], [12, 11, 10]], [[6, 5, 4], [15, 14, 13]]]),
    ("rgba8", False): ("01 02 03 ff 0a 0b 0c fe", "04 05 06 fd 0d 0e 0f fc",
                       [[[1, 2, 3, 255], [10, 11, 12, 254]], [[4, 5, 6, 253], [13, 14, 15, 252]]]),
    ("bgra8", False): ("03 02 01 ff 0c 0b 0a fe", "06 05 04 fd 0f 0e 0d fc",
                       [[[3, 2, 1, 255], [12, 11, 10, 254]], [[6, 5, 4, 253], [15, 14, 13, 252]]]),
    ("mono8", False): ("01 ff", "80 00", [[1, 255], [128, 0]]),
    ("16UC1", False): ("e8 03 ff ff", "01 00 00 01", [[1000, 65535], [1, 256]]),
    ("16UC1", True): ("03 e8 ff ff", "00 01 01 00", [[1000, 65535], [1, 256]]),
    ("32FC1", False): ("00 00 80 3f 00 00 00 c0", "00 00 c0 7f cd cc cc 3d", [[1.0, -2.0], [np.nan, np.float32(0.1)]]),
    ("32FC1", True): ("3f 80 00 00 c0 00 00 00", "7f c0 00 00 3d cc cc cd", [[1.0, -2.0], [np.nan, np.float32(0.1)]]),
}  # fmt: skip
RGB = [[[1, 2, 3], [10, 11, 12]], [[4, 5, 6], [13, 14, 15]]]


def written(encoding: str, bigendian: bool, padding: str) -> Image:
    rows = [bytes.fromhex(row + padding) for row in WRITTEN[encoding, bigendian][:2]]
    return Image(height=2, width=2, encoding=encoding, is_bigendian=bigendian, step=len(rows[0]), data=array("B", b"".join(rows)))


@pytest.mark.parametrize("padding", ["", FIVE])
@pytest.mark.parametrize(("encoding", "bigendian"), WRITTEN)
def test_bytes_mean_what_the_message_says(encoding: str, bigendian: bool, padding: str) -> None:
    decoded = pixels(written(encoding, bigendian, padding))
    assert decoded.dtype.isnative and decoded.dtype.str[1:] == ENCODINGS[encoding][0]
    np.testing.assert_array_equal(decoded, WRITTEN[encoding, bigendian][2])
    if encoding in ("rgb8", "bgr8", "rgba8", "bgra8"):
        np.testing.assert_array_equal(image_from_message(written(encoding, bigendian, padding)), RGB)


def test_all_encodings_are_written_down() -> None:
    assert {encoding for encoding, _ in WRITTEN} == set(ENCODINGS)


def test_depth_is_little_endian_millimetres() -> None:
    message = depth_to_message(np.array([[1000, 65535], [1, 256]], np.uint16), 5, "x")
    assert (message.encoding, message.is_bigendian, message.step) == ("16UC1", 0, 4)
    assert bytes(message.data).hex(" ") == "e8 03 ff ff 01 00 00 01"
    with pytest.raises(StageError, match=r"float64 \(2, 2\), expected uint16"):
        depth_to_message(np.zeros((2, 2)), 5, "x")


def test_pictures_alone_become_rgb() -> None:
    with pytest.raises(StageError, match="encoding is '16UC1', expected one of"):
        image_from_message(written("16UC1", False, ""))


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch):
    """Puts a cv_bridge in place whose decoder is the one given; the choice is made again."""

    def put(decode) -> None:
        module = ModuleType("cv_bridge")
        module.CvBridge = type("CvBridge", (), {"imgmsg_to_cv2": staticmethod(decode)})
        monkeypatch.setitem(sys.modules, "cv_bridge", module)
        image_codec._bridge.cache_clear()

    yield put
    monkeypatch.undo()
    image_codec._bridge.cache_clear()


def whole_pixels(message: Image, encoding: str) -> np.ndarray:
    """As cv_bridge decodes: a row is a whole number of pixels."""
    assert encoding == "passthrough"
    name, channels = ENCODINGS[message.encoding]
    values = np.frombuffer(bytes(message.data), np.dtype(name).newbyteorder(">" if message.is_bigendian else "<"))
    image = values.reshape(message.height, -1, channels)[:, : message.width]
    return image[..., 0] if channels == 1 else image


def test_a_bridge_that_agrees_is_used_where_it_can(install) -> None:
    asked = []
    install(lambda message, encoding: asked.append(message.step) or whole_pixels(message, encoding))
    assert decoder_in_use() == "cv_bridge"
    asked.clear()
    np.testing.assert_array_equal(pixels(written("rgb8", False, "")), RGB)
    np.testing.assert_array_equal(pixels(written("rgb8", False, FIVE)), RGB)  # ours
    assert asked == [6]


def test_a_bridge_that_differs_or_fails_is_not_used(install) -> None:
    install(lambda message, encoding: whole_pixels(message, encoding).astype(np.dtype(ENCODINGS[message.encoding][0])) + 1)
    assert decoder_in_use().startswith("harmowam_core (cv_bridge decodes rgb8, big-endian False, step 12 differently")

    def fails(message: Image, encoding: str) -> np.ndarray:
        raise AttributeError("newbyteorder was removed")

    install(fails)
    assert "cv_bridge fails on rgb8" in decoder_in_use() and "newbyteorder was removed" in decoder_in_use()
    np.testing.assert_array_equal(pixels(written("bgr8", False, "")), WRITTEN["bgr8", False][2])


def test_a_bridge_decodes_what_it_can_and_the_log_says_what_not(install) -> None:
    asked = []

    def little_endian(message: Image, encoding: str) -> np.ndarray:
        if message.is_bigendian:
            raise AttributeError("newbyteorder was removed")
        asked.append(message.encoding)
        return whole_pixels(message, encoding)

    install(little_endian)
    said = decoder_in_use()
    assert said.startswith("cv_bridge, and by harmowam_core for rgb8 big-endian, bgr8 big-endian,") and "little" not in said
    assert "(cv_bridge fails on rgb8, big-endian True, step 12: newbyteorder was removed)" in said
    asked.clear()
    for bigendian in (False, True):
        np.testing.assert_array_equal(pixels(written("16UC1", bigendian, "")), WRITTEN["16UC1", bigendian][2])
    assert asked == ["16UC1"]


def test_the_installed_bridge_gives_the_same() -> None:
    """Where cv_bridge is installed it decodes what it decodes right, and the log says why not the rest; elsewhere that it is not there."""
    admitted, refused = image_codec._bridge()
    if importlib.util.find_spec("cv_bridge") is None:
        assert decoder_in_use() == "harmowam_core (cv_bridge is not installed)"
    assert all(why.startswith("cv_bridge ") for why in refused.values())
    for message in samples():
        kind = image_codec._kind(message)
        assert (kind in admitted) is not (kind in refused)
        theirs = admitted[kind](message) if kind in admitted else whole_pixels(message, "passthrough")
        np.testing.assert_array_equal(image_codec._decode(message), theirs)
        np.testing.assert_array_equal(pixels(message), theirs)

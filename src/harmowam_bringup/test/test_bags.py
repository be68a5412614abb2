"""Reading bags: every layout gives the same messages; damage is reported, and what came before it is read."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bag_writers import Item, by_humble, by_mcap, by_rosbags, metadata_v5
from harmowam_msgs.msg import Task as TaskMsg
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mcap.writer import CompressionType
from rclpy.serialization import serialize_message
from rosbags.rosbag2 import CompressionMode, StoragePlugin
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import String

from harmowam_bringup.bags.bag import Bag, BagError
from harmowam_bringup.bags.message_types import DefinitionError, MalformedError, UnknownTypeError, decoder
from harmowam_bringup.bags.problems import Trouble
from harmowam_core.messages import image_from_message, image_to_message, stamp_to_message

MS = 10**6
START_NS = 1_700_000_000 * 10**9
JOINTS, IMAGES, TASK = "/joint_states", "/camera/scene/color/image_raw", "/harmowam/task"


def items(count: int = 60) -> list[Item]:
    """``count`` joint states at 100 Hz, images of 12x16 at 20 Hz whose grey tells the number, one task: of our own type."""
    found: list[Item] = [(TASK, START_NS, TaskMsg(task_id=1, instruction="put the lime on the plate"))]
    found[0][2].header.stamp = stamp_to_message(START_NS)
    for k in range(count):
        time_ns = START_NS + (k + 1) * 10 * MS
        state = JointState(name=["a", "b"], position=[float(k), 0.5], velocity=[0.0, 0.0])
        state.header.stamp = stamp_to_message(time_ns - MS)
        found.append((JOINTS, time_ns, state))
        if k % 5 == 0:
            found.append((IMAGES, time_ns + 1, image_to_message(np.full((12, 16, 3), k, np.uint8), time_ns - 2 * MS, "x")))
    return found


ITEMS = items()


def contents(bag: Bag) -> list[tuple[Any, ...]]:
    """What was read, comparable."""
    found: list[tuple[Any, ...]] = []
    for item in bag.messages():
        message = item.message
        if item.topic == JOINTS:
            value: Any = (list(message.name), message.position.tolist())
        elif item.topic == IMAGES:
            value = image_from_message(message).tolist()
        else:
            value = (message.task_id, message.instruction)
        found.append((item.topic, item.time_ns, item.stamp_ns, value))
    return found


LAYOUTS: dict[str, Callable[[Path], Path]] = {
    **{
        f"rosbags {storage.name.lower()} v{version}": lambda p, s=storage, v=version: by_rosbags(p / "bag", ITEMS, s, v)
        for storage in StoragePlugin
        for version in (8, 9)
    },
    **{
        f"rosbags {storage.name.lower()} {mode.name.lower()}": lambda p, s=storage, m=mode: by_rosbags(p / "bag", ITEMS, s, 9, m)
        for storage, mode in (
            (StoragePlugin.SQLITE3, CompressionMode.FILE), (StoragePlugin.SQLITE3, CompressionMode.MESSAGE),
            (StoragePlugin.MCAP, CompressionMode.FILE), (StoragePlugin.MCAP, CompressionMode.MESSAGE),
            (StoragePlugin.MCAP, CompressionMode.STORAGE),
        )
    },
    **{f"mcap {kind.name}": lambda p, k=kind: by_mcap(p / "a.mcap", ITEMS, k) for kind in CompressionType},
    "mcap without chunks": lambda p: by_mcap(p / "a.mcap", ITEMS, chunked=False),
    **{f"humble {mode or 'plain'} in {n}": lambda p, m=mode, n=n: by_humble(p / "bag", ITEMS, n, m)
       for mode, n in (("", 1), ("", 3), ("FILE", 2), ("MESSAGE", 1))},
}  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same(layout: str, tmp_path: Path) -> None:
    with Bag(LAYOUTS[layout](tmp_path)) as bag:
        expected = [(topic, time_ns, 0, 0) for topic, time_ns, _ in ITEMS]
        read = contents(bag)
        assert [row[:2] for row in read] == [row[:2] for row in expected]
        assert [row[3][1][0] for row in read if row[0] == JOINTS] == [float(k) for k in range(60)]
        assert [row[3][0][0][0] for row in read if row[0] == IMAGES] == list(range(0, 60, 5))
        assert read[0] == (TASK, START_NS, START_NS, (1, "put the lime on the plate"))
        assert {name: (topic.msgtype, topic.count) for name, topic in bag.topics.items()} == {
            TASK: ("harmowam_msgs/msg/Task", 1), JOINTS: ("sensor_msgs/msg/JointState", 60), IMAGES: ("sensor_msgs/msg/Image", 12),
        }  # fmt: skip
        assert (bag.started_ns, bag.ended_ns) == (START_NS, ITEMS[-1][1]) and not len(bag.problems)


def test_a_part_of_the_time_and_of_the_topics(tmp_path: Path) -> None:
    for layout in ("mcap ZSTD", "mcap NONE", "humble plain in 3"):
        folder = tmp_path / layout
        folder.mkdir()
        with Bag(LAYOUTS[layout](folder)) as bag:
            times = [item.time_ns for item in bag.messages({JOINTS}, START_NS + 100 * MS, START_NS + 200 * MS)]
            assert times == [START_NS + k * 10 * MS for k in range(10, 20)]
            assert bag.require(JOINTS, "/none") == ["/none"]
            assert [problem.topic for problem in bag.problems.of(Trouble.TOPIC_MISSING)] == ["/none"]


def test_chunks_that_overlap_in_time_are_merged(tmp_path: Path) -> None:
    """A chunk a topic group, as our recorder writes them: each group's second comes as a whole."""
    grouped = sorted(ITEMS, key=lambda item: ((item[1] - START_NS) // (200 * MS), item[0]))
    with Bag(by_mcap(tmp_path / "a.mcap", grouped)) as bag:
        times = [raw.time_ns for raw in bag.raw()]
    assert times == sorted(times) and len(times) == len(ITEMS)


def test_images_are_views_of_the_file(tmp_path: Path) -> None:
    with Bag(by_mcap(tmp_path / "a.mcap", ITEMS)) as bag:
        image = image_from_message(next(bag.messages({IMAGES})).message)
        assert not image.flags.owndata and not image.flags.writeable


@pytest.mark.parametrize(
    "layout",
    ["mcap NONE", "mcap ZSTD", "mcap LZ4", "mcap without chunks", "rosbags mcap v9", "humble plain in 1", "humble FILE in 2"],
)
def test_a_cut_file_is_read_as_far_as_it_goes(layout: str, tmp_path: Path) -> None:
    whole = LAYOUTS[layout](tmp_path)
    path = whole if whole.is_file() else sorted(item for item in whole.iterdir() if item.suffix != ".yaml")[-1]
    everything = path.read_bytes()
    with Bag(whole) as bag:
        expected = contents(bag)
    counts = []
    for share in (0.97, 0.8, 0.5, 0.3):
        path.write_bytes(everything[: int(len(everything) * share)])
        try:
            with Bag(whole) as bag:
                read = contents(bag)
                assert bag.problems.of(Trouble.TRUNCATED, Trouble.DAMAGED), share
        except BagError:
            assert share < 0.5 and layout == "humble plain in 1"  # not even the tables' first pages are left
            read = []
        assert all(row in expected for row in read)
        counts.append(len(read))
    assert counts == sorted(counts, reverse=True)
    if layout.startswith("mcap NONE") or "without" in layout:
        assert counts[2] > 0.2 * len(expected)  # half of the file, a sixth of which are definitions and index


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), layout=st.sampled_from(["mcap NONE", "mcap ZSTD", "mcap LZ4", "humble plain in 1"]))
def test_no_damage_makes_the_reader_crash(data: st.DataObject, layout: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("bag")
    whole = LAYOUTS[layout](folder)
    path = whole if whole.is_file() else next(whole.glob("*.db3"))
    damaged, shares = bytearray(path.read_bytes()), st.floats(0, 1, exclude_max=True)  # what ROS leaves after messages packs differently
    for _ in range(data.draw(st.integers(1, 8))):
        damaged[int(data.draw(shares) * len(damaged))] = data.draw(st.integers(0, 255))
    path.write_bytes(damaged[: int(data.draw(shares) * len(damaged))])
    try:
        with Bag(whole) as bag:
            list(bag.messages())
    except BagError as error:
        assert str(whole) in str(error)
    shutil.rmtree(folder)


@pytest.mark.parametrize("layout", ["humble MESSAGE in 1", "rosbags mcap message", "rosbags sqlite3 message"])
def test_compressed_messages_need_no_metadata(layout: str, tmp_path: Path) -> None:
    folder = LAYOUTS[layout](tmp_path)
    with Bag(folder) as bag:
        expected = contents(bag)
    (folder / "metadata.yaml").unlink()
    [file] = folder.iterdir()
    for path in (folder, file):
        with Bag(path) as bag:
            assert contents(bag) == expected and len(expected) == len(ITEMS)


def test_a_bag_without_metadata_or_with_a_file_missing(tmp_path: Path) -> None:
    folder = by_humble(tmp_path / "bag", ITEMS, files=3)
    (folder / "bag_1.db3").unlink()
    with Bag(folder) as bag:
        assert len(contents(bag)) == len(ITEMS) * 2 // 3 + 1
        assert [problem.topic for problem in bag.problems.of(Trouble.FILE_MISSING)] == ["bag_1.db3"]
        assert "/joint_states" in [problem.topic for problem in bag.problems.of(Trouble.GAP)]
    for text in (None, "no: bag", ": {", "rosbag2_bagfile_information: [1]"):
        (folder / "metadata.yaml").unlink()
        if text is not None:
            (folder / "metadata.yaml").write_text(text)
        with Bag(folder) as bag:
            assert bag.problems.of(Trouble.METADATA) and bag.topics[JOINTS].count == 40
        (folder / "metadata.yaml").write_text("")


def test_stamps_are_watched(tmp_path: Path) -> None:
    states = [item for item in items(80) if item[0] == JOINTS]
    states[30][2].header.stamp = states[29][2].header.stamp  # equal
    states[40][2].header.stamp = states[20][2].header.stamp  # back
    del states[50:75]  # a gap of a quarter of a second
    with Bag(by_mcap(tmp_path / "a.mcap", states)) as bag:
        assert len(list(bag.messages())) == len(states) == len(list(bag.messages()))
        found = {problem.trouble: (problem.topic, problem.count, problem.time_ns) for problem in bag.problems}
    assert found == {
        Trouble.EQUAL_STAMPS: (JOINTS, 1, states[30][1]),
        Trouble.OUT_OF_ORDER: (JOINTS, 1, states[40][1]),
        Trouble.GAP: (JOINTS, 1, states[50][1]),
    }


@pytest.mark.parametrize(("bad", "count"), [((30,), 1), (range(30, 80), 1), ((30, 40), 2)])
@pytest.mark.parametrize("jump_s", [-20, 3000])
def test_a_jump_of_stamps_is_told_from_a_clock_that_was_set(bad: Sequence[int], count: int, jump_s: int, tmp_path: Path) -> None:
    states = [item for item in items(80) if item[0] == JOINTS]
    for k in bad:
        states[k][2].header.stamp.sec += jump_s
    with Bag(by_mcap(tmp_path / "a.mcap", states)) as bag:
        list(bag.messages())
        [problem] = bag.problems
    assert (problem.trouble, problem.count, problem.time_ns) == (Trouble.OUT_OF_ORDER, count, states[30][1])


def test_malformed_messages_are_counted_and_left_out(tmp_path: Path) -> None:
    folder = by_humble(tmp_path / "bag", [("/words", START_NS + k, String(data="abc")) for k in range(5)])
    with sqlite3.connect(folder / "bag_0.db3") as db:
        db.execute("UPDATE messages SET data = substr(data, 1, 9) WHERE id = 2")
        db.execute("UPDATE messages SET data = x'' WHERE id = 4")
    with Bag(folder) as bag:
        assert [item.message.data for item in bag.messages()] == ["abc"] * 3
        [problem] = bag.problems
        assert (problem.trouble, problem.topic, problem.count, problem.time_ns) == (Trouble.MALFORMED, "/words", 2, START_NS + 1)


def test_types_nobody_knows_are_reported(tmp_path: Path) -> None:
    folder = by_humble(tmp_path / "bag", ITEMS)
    with sqlite3.connect(folder / "bag_0.db3") as db:
        db.execute("UPDATE topics SET type = 'acme_msgs/msg/Secret' WHERE name = ?", (TASK,))
    with Bag(folder) as bag:
        assert len(list(bag.messages())) == len(ITEMS) - 1
        [problem] = bag.problems
        assert problem.trouble is Trouble.UNKNOWN_TYPE and "acme_msgs/msg/Secret" in problem.text and problem.count == 1


@pytest.mark.parametrize(
    ("definition", "wanted", "why"),
    [
        ("", "std_msgs/msg/String", "is harmowam_msgs/msg/Task, expected std_msgs/msg/String"),
        ("uint32 task_id\nuint8 instruction\n", "harmowam_msgs/msg/Task", "differs in header, instruction"),
        ("std_msgs/Header header\nuint8 task_id\nstring<=9 instruction\nbool more\n", "harmowam_msgs/msg/Task", "differs in header.stamp"),
    ],
)
def test_other_types_and_definitions_are_refused_once(definition: str, wanted: str, why: str, tmp_path: Path) -> None:
    kind = "harmowam_msgs/msg/Task"
    parts = f"{definition}{'=' * 80}\nMSG: std_msgs/Header\nstring frame_id\n"
    path = by_mcap(tmp_path / "a.mcap", [*ITEMS, ITEMS[0]], definitions={kind: parts} if definition else {})
    with Bag(path) as bag:
        for _ in range(2):
            assert {item.topic for item in bag.messages({TASK: (wanted,), JOINTS: ("sensor_msgs/msg/JointState",)})} == {JOINTS}
        [problem] = bag.problems
        assert (problem.trouble, problem.topic, problem.count) == (Trouble.REFUSED, TASK, 2) and why in problem.text


def test_a_definition_that_cannot_be_read_is_reported_once_and_the_installed_one_taken(tmp_path: Path) -> None:
    path = by_mcap(tmp_path / "a.mcap", ITEMS, definitions={"harmowam_msgs/msg/Task": "uint32 = task id?"})
    with Bag(path) as bag:
        for _ in range(2):
            [task] = [item.message for item in bag.messages([TASK])]
            assert task.instruction
        [problem] = bag.problems
        assert (problem.trouble, problem.topic, problem.count) == (Trouble.DAMAGED, TASK, 1)
        assert "definition of harmowam_msgs/msg/Task cannot be read" in problem.text and "installed" in problem.text


def test_definitions_of_the_bag_come_first() -> None:
    raw = serialize_message(String(data="hey"))
    assert decoder("acme_msgs/msg/Words", "ros2msg", "string words\n")(raw).words == "hey"
    nested = "acme_msgs/Words[] all\n" + "=" * 80 + "\nMSG: acme_msgs/Words\nstring words\n"
    assert decoder("acme_msgs/msg/Book", "ros2msg", nested)
    idl = "module acme_msgs { module msg { struct Words { string words; }; }; };"
    assert decoder("acme_msgs/msg/Words", "ros2idl", idl)(raw).words == "hey"
    with pytest.raises(UnknownTypeError, match="acme_msgs/msg/Other"):
        decoder("acme_msgs/msg/Other")
    with pytest.raises(DefinitionError, match="acme_msgs/msg/Words"):
        decoder("acme_msgs/msg/Words", "ros2msg", "= words")
    with pytest.raises(MalformedError, match="is no sensor_msgs/msg/Image"):
        decoder("sensor_msgs/msg/Image")(raw)


def test_what_is_no_bag_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.mcap").write_text("hello")
    (tmp_path / "zero.db3").write_text("")
    for path in (tmp_path / "none", tmp_path / "empty", tmp_path / "text.mcap", tmp_path / "zero.db3", Path(__file__)):
        with pytest.raises(BagError, match=path.name):
            Bag(path)


def test_mcap_files_listed_by_a_metadata_of_version_5(tmp_path: Path) -> None:
    folder = tmp_path / "bag"
    folder.mkdir()
    half = len(ITEMS) // 2
    by_mcap(folder / "bag_0.mcap", ITEMS[:half], CompressionType.ZSTD)
    by_mcap(folder / "bag_1.mcap", ITEMS[half:], CompressionType.ZSTD)
    metadata_v5(folder, ITEMS, ["bag_0.mcap", "bag_1.mcap"], "mcap")
    with Bag(folder) as bag:
        assert len(contents(bag)) == len(ITEMS) and "depth: 5" in bag.topics[IMAGES].qos


def test_an_image_of_a_wrong_size_is_for_the_codec(tmp_path: Path) -> None:
    wrong = Image(height=4, width=4, step=12, encoding="rgb8", data=bytes(10))
    with Bag(by_mcap(tmp_path / "a.mcap", [(IMAGES, START_NS, wrong)])) as bag, pytest.raises(ValueError, match="has 10 bytes"):
        image_from_message(next(bag.messages()).message)


def test_an_unclosed_sqlite_file_is_read_with_its_log(tmp_path: Path) -> None:
    """As a killed `ros2 bag record` leaves it: what is committed may stand in the log beside the file alone."""
    folder = by_humble(tmp_path / "bag", ITEMS)
    with sqlite3.connect(folder / "bag_0.db3") as db:
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("INSERT INTO messages(timestamp, topic_id, data) SELECT timestamp + 1, topic_id, data FROM messages WHERE id = 1")
        db.commit()
        shutil.copytree(folder, tmp_path / "killed")
    (tmp_path / "killed/metadata.yaml").unlink()
    assert (tmp_path / "killed/bag_0.db3-wal").stat().st_size > 0
    with Bag(tmp_path / "killed") as bag:
        assert bag.topics[TASK].count == 2 and len(contents(bag)) == len(ITEMS) + 1
        assert not bag.problems.of(Trouble.TRUNCATED, Trouble.DAMAGED)

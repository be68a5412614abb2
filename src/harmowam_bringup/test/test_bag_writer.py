"""Writing bags: what others read of them, and what is left after a kill or on a full disk."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
import yaml
from mcap.reader import make_reader
from rclpy.serialization import serialize_message
from rosbags.rosbag2 import Reader
from test_bags import IMAGES, ITEMS, JOINTS, contents

from harmowam_bringup.bags.bag import Bag
from harmowam_bringup.bags.bag_writer import BagWriter, RecordedTopic
from harmowam_bringup.bags.message_types import UnknownTypeError, type_of
from harmowam_bringup.bags.problems import Trouble

QOS = {"history": "keep_last", "depth": 5, "reliability": "best_effort", "durability": "volatile"}
NONE = {"sec": 0, "nsec": 0}
QOS |= {
    "deadline": NONE,
    "lifespan": NONE,
    "liveliness": "automatic",
    "liveliness_lease_duration": NONE,
    "avoid_ros_namespace_conventions": False,
}


def write_items(writer: BagWriter) -> None:
    """All of ITEMS."""
    channels: dict[str, int] = {}
    for topic, time_ns, message in ITEMS:
        if topic not in channels:
            channels[topic] = writer.add_topic(RecordedTopic(topic, type_of(type(message)), (QOS,), large=topic == IMAGES))
        writer.write(channels[topic], time_ns, time_ns - 5, serialize_message(message))


@pytest.fixture
def bag(tmp_path: Path) -> Path:
    with BagWriter(tmp_path / "bag", {"preset": "compact"}) as writer:
        write_items(writer)
        writer.note("tasks", "[]")
    assert writer.error is None and sum(writer.counts.values()) == len(ITEMS)
    return tmp_path / "bag"


def test_it_reads_back(bag: Path) -> None:
    with Bag(bag) as read, Bag(bag / "bag_0.mcap") as alone:
        assert len(contents(read)) == len(ITEMS) == len(contents(alone))
        assert not len(read.problems) and not len(alone.problems)
        assert read.custom_data == {"preset": "compact", "tasks": "[]"} == alone.custom_data
        assert yaml.safe_load(read.topics[IMAGES].qos) == [QOS]
    assert sorted(path.name for path in bag.iterdir()) == ["bag_0.mcap", "metadata.yaml"]


def test_other_readers_agree(bag: Path) -> None:
    """rosbags, and MCAP's own library, which also checks the structure of the summary."""
    expected = sorted((topic, time_ns) for topic, time_ns, _ in ITEMS)
    with Reader(bag) as reader:
        assert sorted((connection.topic, time_ns) for connection, time_ns, _ in reader.messages()) == expected
        assert reader.message_count == len(ITEMS)
        assert {c.topic: c.ext.offered_qos_profiles[0].depth for c in reader.connections} == dict.fromkeys(
            {topic for topic, _ in expected}, 5
        )
    with (bag / "bag_0.mcap").open("rb") as file:
        reader = make_reader(file, validate_crcs=True)
        assert reader.get_summary().statistics.message_count == len(ITEMS)
        assert sorted((channel.topic, message.log_time) for _, channel, message in reader.iter_messages()) == expected
        assert [message.sequence for _, _, message in reader.iter_messages([JOINTS])] == list(range(1, 61))
        assert {record.name for record in reader.iter_metadata()} == {"harmowam", "rosbag2"}


def test_groups_have_chunks_of_their_own(bag: Path) -> None:
    with (bag / "bag_0.mcap").open("rb") as file:
        summary = make_reader(file).get_summary()
        names = {number: channel.topic for number, channel in summary.channels.items()}
        groups = [{names[number] for number in chunk.message_index_offsets} for chunk in summary.chunk_indexes]
    assert {IMAGES} in groups and all(len(group) == 1 or IMAGES not in group for group in groups)


def test_the_folder_must_be_new_and_types_known(bag: Path, tmp_path: Path) -> None:
    with pytest.raises(FileExistsError):
        BagWriter(bag, {})
    with BagWriter(tmp_path / "other", {}) as writer, pytest.raises(UnknownTypeError, match="acme"):
        writer.add_topic(RecordedTopic("/a", "acme_msgs/msg/A"))
    with Bag(tmp_path / "other") as read:
        assert list(read.messages()) == [] and read.duration_s == 0


CHILD = textwrap.dedent(
    """
    import sys, time
    from pathlib import Path
    from rclpy.serialization import serialize_message
    from std_msgs.msg import String
    from harmowam_bringup.bags.bag_writer import BagWriter, RecordedTopic

    writer = BagWriter(Path(sys.argv[1]), {"preset": "compact"})
    channels = [writer.add_topic(RecordedTopic(f"/t{k}", "std_msgs/msg/String", large=k == 1)) for k in range(2)]
    data = serialize_message(String(data="x" * int(sys.argv[2])))
    print("ready", flush=True)
    while writer.error is None:
        for channel in channels:
            now = time.time_ns()
            writer.write(channel, now, now, data)
        print(now, flush=True)
        writer.flush()
        time.sleep(0.01)
    writer.close()
    print(type(writer.error).__name__, writer.error.errno, writer.refused, flush=True)
    """
)


def start(folder: Path, size: int, limit: int | None = None) -> subprocess.Popen[str]:
    """A process that records, with files of at most ``limit`` bytes."""
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, str(folder), str(size)],
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=None if limit is None else lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )


def test_a_kill_loses_at_most_the_last_second(tmp_path: Path) -> None:
    with start(tmp_path / "bag", 1000) as process:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        time.sleep(2.5)
        process.send_signal(signal.SIGKILL)
        last_ns = int(process.stdout.read().splitlines()[-2])
    with Bag(tmp_path / "bag") as read:
        times = {topic: [raw.time_ns for raw in read.raw([topic])] for topic in ("/t0", "/t1")}
        assert read.custom_data == {"preset": "compact"}
        assert read.problems.of(Trouble.TRUNCATED) and not read.problems.of(Trouble.METADATA, Trouble.DAMAGED)
        assert read.topics["/t0"].count == len(times["/t0"]) > 50
    assert all(last_ns - received[-1] < 1e9 for received in times.values())


def test_a_file_that_may_not_grow_ends_with_a_whole_chunk(tmp_path: Path) -> None:
    limit = 2 * 2**20
    with start(tmp_path / "bag", 20_000, limit) as process:
        assert process.stdout is not None
        lines = process.stdout.read().splitlines()
    assert process.returncode == 0 and lines[-1].startswith("OSError 27")
    with Bag(tmp_path / "bag") as read:
        count = sum(1 for _ in read.messages())
        assert 0.5 * limit < count * 20_000 < limit and count == sum(topic.count for topic in read.topics.values())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts file systems")
def test_on_a_full_disk_the_bag_is_closed_properly(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(disk)], capture_output=True).returncode:
        pytest.skip("no mounts in this container")
    try:
        with start(disk / "bag", 20_000) as process:
            assert process.stdout is not None
            lines = process.stdout.read().splitlines()
        assert lines[-1].startswith("OSError 28")
        with Bag(disk / "bag") as read:
            assert not len(read.problems) and sum(1 for _ in read.messages()) > 100
        assert json.dumps(yaml.safe_load((disk / "bag/metadata.yaml").read_text()))
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_every_cut_keeps_what_is_whole(bag: Path) -> None:
    """Wherever a kill or a full disk ends the file, also within an index, all whole messages are read."""
    path = bag / "bag_0.mcap"
    everything = path.read_bytes()
    with Bag(bag) as read:
        expected = contents(read)
    counts = []
    for length in range(len(everything), 8, -len(everything) // 150):
        path.write_bytes(everything[:length])
        with Bag(bag) as read:
            found = contents(read)
        assert all(row in expected for row in found)
        counts.append(len(found))
    assert counts == sorted(counts, reverse=True) and counts[0] == len(expected)
    end_of_messages = everything.rindex(b"serialized_metadata") / len(everything)
    assert counts[int(150 * (1 - end_of_messages)) - 1] == len(expected)

"""Writes bags in the layouts that rosbag2 has had, for tests of the reader. Messages are serialized by ROS itself."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml
import zstandard
from mcap.writer import CompressionType
from mcap.writer import Writer as McapWriter
from rclpy.serialization import serialize_message
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from harmowam_bringup.bags.message_types import definition_of, type_of

Item = tuple[str, int, Any]
JAZZY = get_typestore(Stores.ROS2_JAZZY)
QOS_V5 = "- history: 1\n  depth: 5\n  reliability: 2\n  durability: 2\n"


def by_rosbags(folder: Path, items: Sequence[Item], storage: StoragePlugin, version: int = 9, mode: CompressionMode | None = None) -> Path:
    """By the rosbags library."""
    writer = Writer(folder, version=version, storage_plugin=storage)
    if mode is not None:
        writer.set_compression(mode, CompressionFormat.ZSTD)
    with writer as bag:
        connections: dict[str, Any] = {}
        for topic, time_ns, message in items:
            if topic not in connections:
                kind = type_of(type(message))
                connections[topic] = bag.add_connection(topic, kind, msgdef=definition_of(kind), rihs01="RIHS01_" + 64 * "0")
            bag.write(connections[topic], time_ns, serialize_message(message))
    return folder


def by_mcap(
    path: Path,
    items: Sequence[Item],
    compression: CompressionType = CompressionType.NONE,
    *,
    chunked: bool = True,
    definitions: Mapping[str, str] = MappingProxyType({}),
) -> Path:
    """One file by MCAP's own library, in chunks of about 10 kB; ``definitions``: of types, where not those of today."""
    with path.open("wb") as file:
        writer = McapWriter(file, chunk_size=10_000, compression=compression, use_chunking=chunked)
        writer.start(profile="ros2", library="libmcap")
        channels: dict[str, int] = {}
        for sequence, (topic, time_ns, message) in enumerate(items):
            if topic not in channels:
                kind = type_of(type(message))
                schema = writer.register_schema(kind, "ros2msg", definitions.get(kind, definition_of(kind)).encode())
                channels[topic] = writer.register_channel(topic, "cdr", schema, {"offered_qos_profiles": QOS_V5})
            writer.add_message(channels[topic], time_ns, serialize_message(message), time_ns, sequence)
        writer.finish()
    return path


def metadata_v5(folder: Path, items: Sequence[Item], names: Sequence[str], storage: str, mode: str = "", version: int = 5) -> None:
    """metadata.yaml as Humble writes it: profiles as text, files apart, paths relative to the folder."""
    kinds = {topic: type_of(type(message)) for topic, _, message in items}
    times = [time_ns for _, time_ns, _ in items]
    span = {"duration": {"nanoseconds": max(times) - min(times)}, "starting_time": {"nanoseconds_since_epoch": min(times)}}
    information = {
        "version": version, "storage_identifier": storage, **span, "message_count": len(items),
        "topics_with_message_count": [
            {
                "topic_metadata": {"name": topic, "type": kind, "serialization_format": "cdr", "offered_qos_profiles": QOS_V5},
                "message_count": sum(item[0] == topic for item in items),
            }
            for topic, kind in kinds.items()
        ],
        "compression_format": "zstd" if mode else "", "compression_mode": mode, "relative_file_paths": list(names),
        "files": [{"path": name, **span, "message_count": len(items)} for name in names],
    }  # fmt: skip
    (folder / "metadata.yaml").write_text(yaml.safe_dump({"rosbag2_bagfile_information": information}))


def by_humble(folder: Path, items: Sequence[Item], files: int = 1, mode: str = "") -> Path:
    """sqlite3 as rosbag2 of Humble writes it: schema 3, no definitions; files or messages compressed as it does."""
    folder.mkdir()
    names = []
    for number in range(files):
        part = items[number * len(items) // files : (number + 1) * len(items) // files]
        path = folder / f"{folder.name}_{number}.db3"
        with sqlite3.connect(path) as db:
            db.executescript(
                "CREATE TABLE schema(schema_version INTEGER PRIMARY KEY,ros_distro TEXT NOT NULL);"
                "CREATE TABLE metadata(id INTEGER PRIMARY KEY,metadata_version INTEGER NOT NULL,metadata TEXT NOT NULL);"
                "CREATE TABLE topics(id INTEGER PRIMARY KEY,name TEXT NOT NULL,type TEXT NOT NULL,serialization_format TEXT NOT NULL,"
                "offered_qos_profiles TEXT NOT NULL);"
                "CREATE TABLE messages(id INTEGER PRIMARY KEY,topic_id INTEGER NOT NULL,timestamp INTEGER NOT NULL, data BLOB NOT NULL);"
                "CREATE INDEX timestamp_idx ON messages (timestamp ASC);"
                "INSERT INTO schema(schema_version, ros_distro) VALUES (3, 'humble');"
            )
            numbers: dict[str, int] = {}
            for topic, time_ns, message in part:
                if topic not in numbers:
                    numbers[topic] = len(numbers) + 1
                    db.execute("INSERT INTO topics VALUES (?,?,?,?,?)", (numbers[topic], topic, type_of(type(message)), "cdr", QOS_V5))
                data = serialize_message(message)
                data = zstandard.compress(data) if mode == "MESSAGE" else data
                db.execute("INSERT INTO messages(timestamp, topic_id, data) VALUES (?,?,?)", (time_ns, numbers[topic], data))
        db.close()
        if mode == "FILE":
            packed = path.with_name(path.name + ".zstd")
            packed.write_bytes(zstandard.compress(path.read_bytes()))
            path.unlink()
            path = packed
        names.append(path.name)
    metadata_v5(folder, items, names, "sqlite3", mode)
    return folder

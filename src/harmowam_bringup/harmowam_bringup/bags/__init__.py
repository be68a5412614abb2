"""Rosbag2 recordings: read from anywhere, written by ``harmowam record``."""

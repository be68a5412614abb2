"""RealSense cameras: the device layer on pyrealsense2, and the node that stands in for realsense-ros."""

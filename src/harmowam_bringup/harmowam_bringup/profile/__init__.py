"""Cell profiles at work on a real robot: checked, and turned into what ros2_control, drivers and cameras need to be told."""

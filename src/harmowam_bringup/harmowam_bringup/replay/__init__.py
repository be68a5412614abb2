"""Offline evaluation: the models on a recording's observations, judged by what the robot then did."""

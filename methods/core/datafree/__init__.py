"""Calibration images without a data set: what makes noise resemble pictures, and the loop that optimises it."""

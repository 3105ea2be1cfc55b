"""Calibration images without a data set: what makes noise resemble pictures, and the loops that optimise it.

The adapters choose the steps and the seed; how ranges are taken from the images is in `ranges/`.
"""

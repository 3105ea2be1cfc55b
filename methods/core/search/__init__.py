"""Scales by the error at an operator's output: recording, candidates, losses, elimination.

Ranges from a tensor's own values are in `ranges/`; training is in `reconstruct/`.
"""

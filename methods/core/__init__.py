"""What the methods share, in wings; no adapter is imported here.

A method itself is one file in `methods/`.
"""

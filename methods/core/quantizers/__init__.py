"""The grids: uniform, logarithmic, twin and adaptive ones, lookup tables, integer arithmetic.

How their scales are chosen is in `ranges/` and `search/`.
"""

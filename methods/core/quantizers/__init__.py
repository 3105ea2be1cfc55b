"""The grids: uniform, logarithmic, twin uniform, SULQ, TanQ and AdaLog's, lookup tables, integer arithmetic.

How their scales are chosen is in `ranges/` and `search/`.
"""

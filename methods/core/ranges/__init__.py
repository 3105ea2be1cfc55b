"""Ranges and scales from a tensor's own values: observers, percentiles, least squared error, integer arithmetic.

The grids themselves are in `quantizers/`; what looks at the output of a product is in `search/`.
"""

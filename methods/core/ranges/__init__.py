"""Ranges and scales from a tensor's own values: observers, percentiles, least squared error.

What looks at the output of a product is in `search/`.
"""

"""Embedded edition: generated data and small models that run every task offline."""

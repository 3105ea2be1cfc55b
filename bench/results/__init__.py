"""What is asked (cells, suites) and what was measured (records, evidence), on disk, and whether it holds.

Nothing here runs a model; aggregation is in `bench/board`.
"""

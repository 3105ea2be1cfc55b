"""The comparison table that goes into a paper: chosen methods, models and bit widths of one task."""

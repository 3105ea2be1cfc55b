"""What changed between two states of the results, and the nightly run that finds out."""

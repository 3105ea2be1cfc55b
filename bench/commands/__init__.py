"""The commands of `vitptq`, a file per group."""

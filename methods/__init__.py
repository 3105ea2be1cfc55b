"""One file per method; what they share is in `methods.core`."""

"""What methods, tasks and quantizers promise the harness, and what it gives them.

Nothing here runs a cell or reads a file; `methods/` and `tasks/` import from no other room of the harness.
"""

"""The harness: contracts, cells and their records, runs, the board, the website and the command line.

It knows no method and no task by name: the registry finds them.
"""

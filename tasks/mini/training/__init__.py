"""How the shipped weights were trained: commands that anyone can run again.

A benchmark run needs nothing of this folder.
"""

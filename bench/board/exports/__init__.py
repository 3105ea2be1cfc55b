"""The board as text: a table for the terminal, CSV and JSON of everything, LaTeX for a paper, Markdown.

What the numbers are is decided in the room above; what a page of the leaderboard shows, in `bench/website`.
"""

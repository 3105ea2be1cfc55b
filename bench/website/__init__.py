"""The leaderboard as files: pages, charts, pictures.

What they show is computed in `bench/board`; the templates are in `site/`.
"""

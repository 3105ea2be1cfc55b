"""Records aggregated into rows and tables: statistics, badges, comparisons; `exports/` writes them as text.

Pages and pictures of the leaderboard are in `bench/website`. Nothing here imports torch.
"""

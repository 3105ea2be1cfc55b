"""Records aggregated into rows and tables: statistics, paired comparison, exports.

Pages and pictures of the leaderboard are in `bench/website`.
"""

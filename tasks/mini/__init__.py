"""The embedded editions: generated data and small shipped models, which run every task offline through its own code.

What reads images and computes scores is in the tasks' folders; here is what these editions put in place of a download.
"""

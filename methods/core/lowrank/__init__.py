"""Weights as products of two factors: components and their energies, ranks for a parameter budget, residuals.

Nothing here is on a grid; quantizers may be put in front of the factors afterwards.
"""

"""How much the task's loss cares: Fisher information and the perturbation Hessian.

What they weight is in `search/` and `reconstruct/`.
"""

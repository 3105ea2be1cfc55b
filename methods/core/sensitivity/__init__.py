"""How much the predictions depend on a unit's outputs: Fisher information and the perturbation Hessian.

What they weight is in `search/` and `reconstruct/`.
"""

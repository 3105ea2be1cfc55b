"""A float model made ready: operands in slots, batch norms folded, what each family's blocks and norms are.

Nothing here chooses a range; a new family goes to `families/`.
"""

"""Layer by layer, in execution order: each weight is put on its grid in closed form, for what the layers before give.

Nothing here trains. What a layer reads is kept as second moments, so that images can be many.
"""

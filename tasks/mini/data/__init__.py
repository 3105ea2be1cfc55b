"""The generated data of the embedded editions: material, composition, and the two layouts that are written.

Images that train weights are composed in `tasks/mini/training`; nothing here knows a model.
"""

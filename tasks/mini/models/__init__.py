"""The models of the embedded editions: how they are built, and their shipped weights (`tasks/mini/weights`).

How the weights were trained is in `tasks/mini/training`.
"""

"""The tasks: models, calibration data, evaluation, scores. Each has a folder; `mini/` holds the embedded editions.

What every task shares is here. Quantising is in `methods/`, running cells and keeping results in `bench/`.
"""

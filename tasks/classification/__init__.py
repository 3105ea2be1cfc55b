"""ImageNet classification with timm: the task, its full edition, models and calibration lists.

The embedded edition is in `tasks/mini`.
"""

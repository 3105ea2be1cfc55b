"""ImageNet classification with timm: the task, the full edition and its calibration lists.

The embedded edition is in `tasks/mini`.
"""

"""What detection and segmentation share of OpenMMLab: building, loading, compiled operators, set-up.

The tasks themselves are in `tasks/detection` and `tasks/segmentation`.
"""

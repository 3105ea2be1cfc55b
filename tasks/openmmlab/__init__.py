"""What detection and segmentation share of OpenMMLab: building models, decoding and batching images, operators.

The tasks themselves are in `tasks/detection` and `tasks/segmentation`.
"""

"""COCO detection and instance segmentation with mmdet: the task, its full edition, models and calibration lists.

The embedded edition is in `tasks/mini`; what is not special to detectors is in `tasks/openmmlab`.
"""

"""ADE20K semantic segmentation with mmseg: the task, its full edition, models and calibration lists.

The embedded edition is in `tasks/mini`; what is not special to segmenters is in `tasks/openmmlab`.
"""

"""Write the published calibration lists again."""

from vitptq.tasks.detection.coco_lists import LISTS

if __name__ == "__main__":
    LISTS.write()

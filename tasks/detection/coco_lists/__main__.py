"""Write the published calibration lists again."""

from vitptq.tasks.detection.coco_lists import write

if __name__ == "__main__":
    write()

"""Write the published calibration lists again."""

from tasks.coco_lists import write

if __name__ == "__main__":
    write()

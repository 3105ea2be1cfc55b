"""Write the published calibration lists again."""

from vitptq.tasks.classification.imagenet_lists import LISTS

if __name__ == "__main__":
    LISTS.write()

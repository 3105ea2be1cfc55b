"""Write the published calibration lists again."""

from vitptq.tasks.segmentation.ade20k_lists import LISTS

if __name__ == "__main__":
    LISTS.write()

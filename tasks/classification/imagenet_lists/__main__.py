"""Write the published calibration lists again."""

from vitptq.tasks.classification.imagenet_lists import write

if __name__ == "__main__":
    write()

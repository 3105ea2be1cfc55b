"""Write the published calibration lists again."""

from tasks.imagenet_lists import write

if __name__ == "__main__":
    write()

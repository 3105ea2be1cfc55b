"""Write the published calibration lists again."""

from tasks.ade20k_lists import write

if __name__ == "__main__":
    write()

"""What keeps methods from the images that they may not see, and cells from what others left behind in a process.

Nothing here measures anything (`run/`) or knows a method or a task by name.
"""

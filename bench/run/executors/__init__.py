"""Where cells run: in processes of this machine, or on the nodes of a Ray cluster.

An executor is a context manager whose `run_wave(cells, on_record, on_steps)` measures cells that do not wait for each
other, and returns those that another process is working on.
"""

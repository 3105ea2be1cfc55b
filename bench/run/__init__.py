"""One cell from the float model to its record, many cells on worker processes, and everything that checks a run.

What a cell or a record is lives in `bench/results`; what is made of records in `bench/board`.
"""

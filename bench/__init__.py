"""The harness: cells, records, the store, the float gate, the audit, costs, the board and the command line."""

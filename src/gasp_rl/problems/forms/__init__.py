"""The forms in which problems come, one module each. A form reads one row; files are read in `problems.jsonl`."""

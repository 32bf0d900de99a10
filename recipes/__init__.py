"""Whole runs, one file each: `accelerate launch recipes/<stem>.py`, or `hf-fashion <stem>` anywhere."""

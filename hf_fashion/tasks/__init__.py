"""One file for each task; it holds only what no other task has."""

"""Both sides of each comparison, in turn, on the same input and the same machine."""

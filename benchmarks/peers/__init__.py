"""Other programs that do a part of what this one does, for comparison in the same run (README.md)."""

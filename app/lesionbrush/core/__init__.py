"""What a request is and what becomes of it, for every system: knows no system, no file format, no torch."""

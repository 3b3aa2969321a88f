"""Published weights that a user may add: known ones, fetched, checked, converted."""

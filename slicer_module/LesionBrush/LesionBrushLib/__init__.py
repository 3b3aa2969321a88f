"""The Slicer module's parts; `client` works in any Python."""

"""The Slicer module's parts: `client` (HTTP; works in any Python), `logic` (the scene), `panel` (Qt)."""

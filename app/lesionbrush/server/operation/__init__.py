"""Starting, watching and ending the server.

Read `serve` (starts it; `check` looks at everything before, `place` at its folder and port), then `startup`,
which puts the parts in place, and `health`, which says how the server is and ends it. `meter` counts, `logs`
decides what the log may say.
"""

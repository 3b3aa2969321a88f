"""Who and what may come in: nothing else of the server sees a request that has not passed here.

Read `gate` first (the list of all routes, and the one way in), then `perimeter` (from where a request may
come), `access` (who may do what) and `limits` (how much comes in, and of what type).
"""

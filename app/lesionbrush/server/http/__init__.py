"""The routes: requests into calls, results into answers.

Read `routes` first (at MONAI Label's addresses, with `downloads`), then `job_routes`, `variant_routes`,
`cohort_routes` and `wire` (protocol 1, see docs/wire.md). `deps` is what routes are given; `stream` and
`replies` send answers.
"""

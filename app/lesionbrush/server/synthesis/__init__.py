"""From files to a synthetic CT, as the server does it; the work itself is `lesionbrush.core.synthesize`.

Read `order` and `making` first: what is asked for, and how it is carried out. `inference` has the
`Service`, which outlives a request, and a result that somebody waits for; `stored` one that stays on disk.
`likeness` and `cohorts` are more cases like one. `task` is a model as MONAI Label sees it; `models`,
`devices` and `facts` say what there is and where it runs; `rehearsal` makes one ready before the first
request.
"""

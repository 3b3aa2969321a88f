"""From files to a synthetic CT, as the server does it; the work itself is `lesionbrush.core.synthesize`.

Read `inference` first: its `Service` is what outlives a request. `kept` is a job whose result stays on disk,
`task` a model as MONAI Label sees it; `models`, `devices` and `facts` say what there is and where it runs.
"""

"""Many annotated cases from one specification: planned, made by several processes, verified, exported.

Read `specification` first: what may be asked. `casting` makes a list of cases of it (`shares`,
`balancing`), `findings` draws what each gets and where (`shapes`, `placing`, `carrying`), `making` makes
one case, `workers` and `running` all of them, here (`processes`) or on several machines (`cluster`),
`folder` keeps them, whole or not at all; `verifying` and `export/` come after. A case's random numbers hang
on the specification's seed and the case's id alone, never on the order or on the number of workers.
"""

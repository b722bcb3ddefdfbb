"""The audit: from the signals of targets and references to what each party could have learnt.

`evidence` is what it reads, `views` says who sees what, `scoring` attacks, `metrics` and `intervals` measure, and
`findings` makes tables of it; `api` is the whole way.
"""

"""Who is served next when a deployment cannot serve all at once. Pure: time is passed in, nothing waits here.

`counters` says how much each account was served, `line` who is next, `in_flight` how many may run, `dispatcher` puts
them together for one deployment. `post` is what one process has of it: alone, as the region's dispatcher (`desk`), or
as one that asks the dispatcher (`member`).
"""

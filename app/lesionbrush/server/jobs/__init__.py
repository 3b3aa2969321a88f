"""Work that takes longer than a request: who waits for it, where it runs, and how far it is.

`board` is the entry: it takes work, keeps the records, and hands it to one `worker` per device, in the order
of `queue`. Nothing in here knows what the work is, nor of HTTP.
"""

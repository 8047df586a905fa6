"""Workers: any number of processes that carry out runs together, over a database that all of them reach.

`handing.py` hands a run over and follows it, `advancing.py` decides what comes next, `delivering.py` takes one host
through its part, and `worker.py` is a worker. docs/workers.md says what people see of it.
"""

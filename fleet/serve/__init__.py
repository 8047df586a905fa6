"""What people see of a fleet in a browser, and programs over HTTP: docs/serve.md.

`guard` refuses what no page of ours has sent, `door` lets in whom we know, `watcher` keeps up with what happens, and
`pages_*` show it. Nothing here changes a host.
"""

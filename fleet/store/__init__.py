"""Bring store paths from the local store to many hosts, over the serve protocol of `nix-store --serve`.

`wire` is the encoding of the protocol, `nar` reads store paths, `supply` reads each path once for all hosts, and `send`
sends a host what it lacks. `deltas` does the same over slow links. `roots` is about the local store: what keeps its
paths, and how to let go what nothing keeps.
"""

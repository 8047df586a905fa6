"""Store paths on their way from the local store to many hosts, over the serve protocol of `nix-store --serve`.

`wire` is its encoding, `serve` speaks it over a byte stream, `nar` and `local` read the local store, `supply` reads
each path once for all hosts, and `send` brings what a host lacks to it.
"""

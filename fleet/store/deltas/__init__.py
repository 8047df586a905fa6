"""Bring store paths over a slow link: as deltas against what the host has, otherwise compressed.

The data is what `send` would send, the serve protocol for `nix-store --serve --write`, cut into groups that are
compressed one by one. `bases` finds which path of the host is like a new one, `groups` cuts, `frames` compresses each
group once for all hosts, and `send` sends it. On the host the shell program `receive` turns it back into the serve
protocol. Nix checks every path there against the hash that came with it, so that whatever goes wrong on the way only
costs time.
"""

"""Store paths on their way over a thin link: as differences from what the host has, and else compressed.

What goes to the host is what `send` would send, the serve protocol as `nix-store --serve --write` reads it, cut into
groups that are compressed one by one. `bases` says which path of the host is like a new one, `groups` cuts, `frames`
compresses each group once for all hosts, and `send` puts it on the link. On the host the shell program `receive` makes
the serve protocol of it again. Every path is checked there by Nix against the hash that came with it, so whatever
goes wrong on the way costs time and no more.
"""

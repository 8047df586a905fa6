"""Check what the evaluation of hosts does not show: the flake's lock file, its files, and its other outputs.

`lock` reads flake.lock, `tree` lists the files, `secrets` and `commands` read what is in them, `outputs` asks Nix.
`snapshot`, `evaluations` and `revision` tell one state of a flake from another.
"""

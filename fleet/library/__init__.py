"""Fleet as a library: `fleet.Fleet`, and what the faces share: assembling runs, plans as files, JSON documents.

This is the only room that puts a run together from a fleet.toml, logins, the state and the local Nix. The command line
is built on it, and so is whatever comes.
"""

"""Deploys NixOS to a fleet of hosts, and cannot leave one broken."""

__version__ = "0.1.0"

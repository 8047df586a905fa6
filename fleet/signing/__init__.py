"""Signatures over plans, by SSH keys. Nothing here knows what a plan is, or who may do what.

`keys` reads public keys, `sshsig` takes signatures apart, `bundle` is the file that they are kept in, and `keygen` lets
ssh-keygen make and verify them: it alone decides whether a signature is good.
"""

from fleet.signing.keys import PublicKey
from fleet.signing.sshsig import Signature

APPROVAL = "fleet-approval@v1"
"""The namespace of signatures by people who approve a plan."""
PLAN = "fleet-plan@v1"
"""The namespace of signatures by whoever has made a plan."""

__all__ = ["APPROVAL", "PLAN", "PublicKey", "Signature"]

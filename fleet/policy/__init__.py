"""Who may change what: principals.toml and policy.toml as values, and what they say about a change. No I/O but reading.

`principals` says who there is; `schema` has the keys of policy.toml, `rules` what its rules demand of a change, and
`verdict` whether that is satisfied. Both files are beside fleet.toml, and neither has to be there.
"""

from fleet.policy.principals import Actor, PrincipalKind, Principals
from fleet.policy.rules import Change, Decision, Demand, demands
from fleet.policy.schema import Policy
from fleet.policy.verdict import Approval, Evidence, Verdict, judged

__all__ = [
    "Actor",
    "Approval",
    "Change",
    "Decision",
    "Demand",
    "Evidence",
    "Policy",
    "PrincipalKind",
    "Principals",
    "Verdict",
    "demands",
    "judged",
]

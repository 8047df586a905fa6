"""A plan is a value that says what will happen to which host, complete before anything changes.

`part` is one host's share, which the host's `begin` reads; `plan` is the whole; `text` and `codecs` define how both are
written; `manifest` names the contents of a closure.
"""

from fleet.plans.part import Action, Forecast, Part
from fleet.plans.plan import LeftOut, OtherSource, Plan, SoakOf, Source
from fleet.plans.text import TextError

__all__ = ["Action", "Forecast", "LeftOut", "OtherSource", "Part", "Plan", "SoakOf", "Source", "TextError"]

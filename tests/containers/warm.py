"""What `forked` has imported before it forks: the command line with all that its commands import late."""

from __future__ import annotations

import importlib
import pkgutil
import sys

import fleet
from fleet.__main__ import BeforeAsyncssh

OTHERS = ("__main__", "scripts", "mcp", "serve", "crew", "procrastinate", "postgres")
"""Parts of names of modules that few commands import, and of programs."""

sys.meta_path.insert(0, BeforeAsyncssh())
for module in pkgutil.walk_packages(fleet.__path__, "fleet."):
    if not set(module.name.split(".")) & set(OTHERS):
        importlib.import_module(module.name)

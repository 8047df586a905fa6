"""A deployment from request to results: `prepare` looks and builds, `rollout` goes through the waves, `host` does one.

Values flow to the right only:

    select ─ preflight ─ evaluate ─ build ─ plan ─┬─ push ─ switch ─ prove ─┬─ commit
             └────────── prepare ───────────────┘ └─ host, in waves ────────┴─ revert
"""

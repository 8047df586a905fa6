"""Deploy: from selected hosts to a plan, and from a plan to the results.

`planning` makes a plan, `applying` checks that its hosts are as it says, `rollout` takes them through the waves, and
`host` does one of them. Each step takes frozen values and returns one; the journal alone keeps what happened:

    select ─ preflight ─ evaluate ─ build ─ survey ─ plan ─┬─ look ─┬─ push ─ checks ─ switch ─ prove ─┬─ commit
             └──────────────── planning ─────────────────┘ applying └───────── host, in waves ────────┴─ revert
"""

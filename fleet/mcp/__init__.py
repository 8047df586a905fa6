"""What agents may see of a fleet and ask for, over the Model Context Protocol: docs/mcp.md.

`looks`, `runs`, `plans` and `changes` answer, over `Fleet` and without any transport; `tools` is the table of them, and
`server` alone knows the SDK. Whoever serves over another transport gives `server` another `Desk` for each principal.
"""

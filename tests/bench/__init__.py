"""How long things take, and what they cost here, beside other tools on the same hosts in the same run."""

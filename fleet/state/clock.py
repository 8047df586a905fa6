"""Who lives, by the clock of a database that machines share: their own clocks differ."""

from __future__ import annotations

LASTS = 30.0
"""Seconds for which somebody lives after having been heard."""
NOW = "CAST(EXTRACT(EPOCH FROM clock_timestamp()) AS DOUBLE PRECISION)"
# While the database was away, nobody could be heard. Whoever lives has been a while after it is back.
BACK = "CAST(EXTRACT(EPOCH FROM pg_postmaster_start_time()) AS DOUBLE PRECISION)"
LIVES = f"greatest(ends, {BACK} + {LASTS}) > {NOW}"
"""Whether whoever counts as living until `ends` does."""

# What anybody warned of since second $2 of the clock.
exec 2>&1
journalctl --no-pager --output=short-iso-precise --since="@$2" --priority=warning --lines=500

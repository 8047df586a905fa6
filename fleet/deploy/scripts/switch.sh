# What the switch and the keeper of run $1 wrote.
exec 2>&1
journalctl --no-pager --output=short-iso-precise -u "fleet-switch-$1*" -u "fleet-keep-$1"

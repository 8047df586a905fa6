# What is known of each unit that has failed, or waits to be restarted.
exec 2>&1
systemctl list-units --plain --no-legend --state=failed,auto-restart | while read -r unit _; do
    systemctl --no-pager --full status --lines=30 "$unit" </dev/null
done

# As read-command.sh, and says before that it is there.
echo "fleet: ready" >&2
IFS= read -r fleet_line && eval "$fleet_line"

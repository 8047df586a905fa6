# Runs "$@", and writes what that writes as base64, so that every byte arrives. The exit status is that of the command.
exec 4>&1
status=$({ { "$@" 3>&- 4>&-; echo $? >&3; } | base64 >&4; } 3>&1)
exit "$status"

# Runs the command that LAB_EXEC has, and keeps its output and exit status in files named after LAB_ID; those of LAB_DONE
# have arrived. What comes behind this is tell.sh.
#
# The command is a variable, so that it is on no command line but its own: people look for processes by those. It is
# encoded, since store paths in the environment of a process are roots. It has a session of its own, so that a `kill 0` in
# it does not end what waits for it.
command=$(echo "$LAB_EXEC" | base64 -d)
id=$LAB_ID
rm -f "/dev/shm/$LAB_DONE".*
unset LAB_EXEC LAB_ID LAB_DONE
eval "set -- $command"
setsid --wait "$@" >"/dev/shm/$id.out" 2>"/dev/shm/$id.err"
echo $? >"/dev/shm/$id.status"

# Runs the command "$@" without input, and ends it, with all that it has started, when nobody waits for it any more: stdin
# ends then, and nothing comes there before.
exec 3<&0
setsid "$@" </dev/null 3<&- &
command=$!
{ read -r _; kill -s TERM -- "-$command" || kill -s TERM "$command"; sleep 5; kill -s KILL -- "-$command"; } <&3 >/dev/null 2>&1 &
watch=$!
exec 3<&-
wait "$command"
status=$?
kill "$watch" 2>/dev/null
exit "$status"

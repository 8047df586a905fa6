# Says that it is there, waits for a line, and becomes the command in that: what comes after it is the command's stdin.
echo "fleet: ready" >&2
IFS= read -r line && eval "exec $line"

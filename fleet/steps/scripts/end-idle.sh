# Ends each process with $1 in its environment, as soon as it does nothing for half a second: one that is still at work on
# what had come through is given the time for it, since that need not be sent again then. It is one of root's, or of user $2's:
# anybody may have $1 in an environment, and be at work for ever.
seen() { cat "$folder/io" "$folder/stat" 2>/dev/null; }
for folder in /proc/[0-9]*; do
    grep -qs "^Uid:[[:space:]]*${2:-0}[[:space:]]" "$folder/status" || continue
    tr "\0" "\n" 2>/dev/null <"$folder/environ" | grep -qxF "$1" || continue
    while before=$(seen); sleep 0.5; [ "$before" != "$(seen)" ]; do :; done
    kill "${folder#/proc/}" 2>/dev/null
done

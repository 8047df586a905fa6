# Keeps the host program, which comes on stdin, by the SHA-256 $1 of its text, and becomes it, called with the words after $1.
# Whoever cannot keep it, without root or on a full /run, has it run all the same.
PATH=$PATH:/run/current-system/sw/bin:/usr/bin:/bin
folder=/run/fleet/programs
new=$folder/.$$
name=$1
mask=$(umask)
shift
text=$(cat)
if [ "$(printf "%s\n" "$text" | sha256sum)" != "$name  -" ]; then
    echo "the host program was cut short on its way" >&2
    exit 70
fi
umask 077
if { mkdir -p "$folder" && printf "%s\n" "$text" >"$new" && mv -f "$new" "$folder/$name"; } 2>/dev/null; then
    find "$folder" -type f ! -name "$name" -delete
    umask "$mask"
    exec sh "$folder/$name" "$@"
fi
rm -f "$new"
umask "$mask"
printf "%s\n" "$text" | sh -s -- "$@"

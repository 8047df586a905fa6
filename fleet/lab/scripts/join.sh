# Enters the control groups whose files come before `--`, and is then the command behind it.
while [ "$1" != -- ]; do
    { echo 0 >"$1"; } 2>/dev/null
    shift
done
shift
exec "$@"

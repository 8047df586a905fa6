# Prints what the keeper of run $1 and the units after $3 wrote since second $2 of the clock, at most the last $3 entries, as JSON;
# of what systemd says about these units, notices and worse.
keeper=_SYSTEMD_UNIT=fleet-keep-$1.service since=$2 lines=$3
shift 3
units=$#
for unit; do set -- "$@" "_SYSTEMD_UNIT=$unit"; done
if [ "$units" -gt 0 ]; then
    set -- "$@" +
    count=0
    for unit; do
        [ $count -lt "$units" ] || break
        count=$((count + 1))
        set -- "$@" "UNIT=$unit"
    done
    set -- "$@" PRIORITY=0 PRIORITY=1 PRIORITY=2 PRIORITY=3 PRIORITY=4 PRIORITY=5 _PID=1 +
    shift "$units"
fi
exec journalctl --quiet --no-pager --output=json --since="@$since" --lines="$lines" "$@" "$keeper"

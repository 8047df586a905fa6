# Prints what the keeper of run $1 and the units after $4 of user $4 wrote since second $2 of the clock, at most the last $3 entries, as
# JSON. Another user may have units of the same names.
keeper=_SYSTEMD_UNIT=fleet-keep-$1.service since=$2 lines=$3
uid=$(id -u -- "$4") || exit
shift 4
units=$#
for unit; do set -- "$@" "_SYSTEMD_USER_UNIT=$unit" "_UID=$uid" +; done
shift "$units"
exec journalctl --quiet --no-pager --output=json --since="@$since" --lines="$lines" "$@" "$keeper"

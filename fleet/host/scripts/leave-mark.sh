# Leaves a mark of run $0 on the disk, and becomes the command "$@", which brings store paths and holds a lock on the mark
# for as long as it runs.
#
# Nix calls a path valid before its files are on the disk. A mark of an earlier boot tells `verify` of the host program to
# look for damage; in a container the boot is that of PID 1. Whoever has synced the store takes a mark away that nobody
# holds, so the lock counts only if the mark has its name still.
#
# The exit status is 74 where the mark cannot be written, or is not to be had for ten minutes, and 75 where the host went
# down since the run began to push.
# shellcheck disable=SC2015  # what stands after || is for both
mark=/nix/var/fleet/unsynced/$0
if [ -e /proc/1/stat ]; then
    boot=$(cat /proc/sys/kernel/random/boot_id; cut -d ' ' -f 22 /proc/1/stat)
else
    boot=$(sysctl -n kern.bootsessionuuid)
fi
fail() {
    [ -s "$mark" ] || rm -f "$mark"
    echo "error: cannot write or lock $mark" >&2
    exit 74
}
mask=$(umask)
umask 077
# shellcheck disable=SC3013  # POSIX since 2024
until [ "$mark" -ef /dev/fd/8 ]; do
    mkdir -p "${mark%/*}" 2>/dev/null && true 2>/dev/null >>"$mark" || fail
    exec 8>>"$mark"
    flock -s -w 600 8 || fail
done
[ -s "$mark" ] || printf "%s\n" "$boot" >"$mark" && sync "$mark" "${mark%/*}" || fail
[ "$(cat "$mark")" = "$boot" ] || {
    echo "error: the host went down meanwhile, deploy again" >&2
    exit 75
}
umask "$mask"
exec "$@"

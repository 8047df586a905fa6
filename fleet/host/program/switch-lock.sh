# --- the lock of switch-to-configuration ----------------------------------------------------------------
#
# Whoever holds it switches now, and may be repairing the host. But NixOS makes a file that everybody can open and lock, and
# then nothing switches any more. So only a process of root counts, and what others hold gives way to a file that they
# cannot open. It is for root alone anyhow: nobody else can switch.

switch_lock=/run/nixos/switch-to-configuration.lock

# Succeed if no process of root holds the lock. Where nobody at all does, it is ours for a moment.
# shellcheck disable=SC2094  # it is only locked
switch_lock_is_free() {
    [ ! -e $switch_lock ] || { flock -n 6; } 2>/dev/null 6<$switch_lock || [ -z "$(switch_lock_holder)" ]
}
wait_for_switch_lock() { wait_for 60 switch_lock_is_free && close_switch_lock; }

# Print the process of root that holds the lock, `PID NAME`. The kernel names the process that took it, which may have left it
# to another; what each holds is in its fdinfo.
# sets: lock device places
switch_lock_holder() {
    lock=$(stat -c '%d %i' $switch_lock 2>/dev/null) || return 0
    device=${lock% *}
    lock=$(printf '%02x:%02x:%s' $((device >> 8 & 0xfff)) $((device & 0xff | device >> 12 & 0xfff00)) "${lock#* }")
    places=$(sed -n "s,^[0-9]*: FLOCK .* \([0-9]*\) $lock .*,/proc/\1/fdinfo,p" /proc/locks)
    # shellcheck disable=SC2086  # a list
    if [ -n "$places" ]; then
        ! root_holds_lock $places || return 0
    elif [ "$(readlink /proc/self/ns/pid)" = 'pid:[4026531836]' ]; then
        return 0                        # a container is not told of locks whose taker has ended
    fi
    set +f
    set -- /proc/[1-9]*/fdinfo
    set -f
    root_holds_lock "$@"
    return 0
}

# Print the first process that is root's and holds lock $lock, of those with these folders in /proc. The real user counts: a
# program that is set-uid keeps what an ordinary one has left open for it.
# sets: place
root_holds_lock() {
    set -- "$(grep -rls "FLOCK .* $lock " "$@")"
    for place in $1; do
        place=${place%/fdinfo/*}
        [ "$(real_user "$place")" = 0 ] || continue
        echo "${place#/proc/} $(get "$place/comm")"
        return
    done
    return 1
}

# Print the real user of the process with folder $1 in /proc.
# sets: key user
real_user() { while read -r key user _; do [ "$key" != Uid: ] || echo "$user"; done 2>/dev/null <"$1/status"; }

# Let the lock be a file that only root can open. Whoever has opened the one before keeps that one.
close_switch_lock() {
    if [ "$(stat -c %a $switch_lock 2>/dev/null)" = 600 ] && { flock -n 6; } 6<$switch_lock; then return; fi
    openly mkdir -p ${switch_lock%/*} && true >$switch_lock.$$ || return 0
    flock -n $switch_lock mv -f $switch_lock.$$ $switch_lock ||
        { switch_lock_is_free && mv -f $switch_lock.$$ $switch_lock; } || rm -f $switch_lock.$$
}

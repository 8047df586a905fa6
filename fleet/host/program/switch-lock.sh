# --- the lock of switch-to-configuration ----------------------------------------------------------------
#
# Whoever holds it switches now, and may be repairing the host. But NixOS makes a file that everybody can open and lock, and
# then nothing switches any more. So only a process of root counts, and what others hold gives way to a file that they
# cannot open. It is for root alone anyhow: nobody else can switch.

switch_lock=/run/nixos/switch-to-configuration.lock

switch_lock_is_free() { [ -z "$(switch_lock_holder)" ]; }
wait_for_switch_lock() { wait_for 60 switch_lock_is_free && close_switch_lock; }

# Print the process of root that holds the lock, `PID NAME`. The kernel names the process that took it, which may have left it
# to another; what each holds is in its fdinfo.
# sets: places
switch_lock_holder() {
    switch_lock_is_taken || return 0
    places=$(sed -n "s,^[0-9]*: FLOCK .* \([0-9]*\) $lock .*,/proc/\1,p" /proc/locks)
    root_holds_lock "$places" || root_holds_lock "$(find /proc -maxdepth 1 -name '[1-9]*' 2>/dev/null)"
}

# Succeed if anybody may hold the lock: $lock is its name in /proc. A container is not told of locks whose taker has ended.
# sets: lock
switch_lock_is_taken() {
    lock=$(switch_lock_id) || return
    grep -q "^[0-9]*: FLOCK .* $lock " /proc/locks || [ "$(readlink /proc/self/ns/pid)" != 'pid:[4026531836]' ]
}

# sets: lock device
switch_lock_id() {
    lock=$(stat -c '%d %i' $switch_lock 2>/dev/null) || return
    device=${lock% *}
    printf '%02x:%02x:%s\n' $((device >> 8 & 0xfff)) $((device & 0xff | device >> 12 & 0xfff00)) "${lock#* }"
}

# Print the first of processes $1, folders of /proc, that is root's and holds lock $lock. The real user counts: a program that
# is set-uid keeps what an ordinary one has left open for it.
root_holds_lock() {
    printf '%s\n' "$1" | sed 's,$,/fdinfo,' | xargs grep -rls "FLOCK .* $lock " | while read -r place; do
        place=${place%/fdinfo/*}
        grep -qs '^Uid:[[:space:]]*0[[:space:]]' "$place/status" || continue
        echo "${place#/proc/} $(cat "$place/comm" 2>/dev/null)"
        break
    done | grep .
}

# Let the lock be a file that only root can open. Whoever has opened the one before keeps that one.
close_switch_lock() {
    if [ "$(stat -c %a $switch_lock 2>/dev/null)" = 600 ] && flock -n $switch_lock true; then return; fi
    openly mkdir -p ${switch_lock%/*} && true >$switch_lock.$$ || return 0
    flock -n $switch_lock mv -f $switch_lock.$$ $switch_lock ||
        { switch_lock_is_free && mv -f $switch_lock.$$ $switch_lock; } || rm -f $switch_lock.$$
}

# --- the switch ---

each() {
    verb=$1
    shift
    [ $# -gt 0 ] || return 0
    systemctl "$verb" -- "$@" && return 0
    status=4
    for unit; do
        # A service whose reload has failed runs on.
        if systemctl is-failed -q -- "$unit" || { [ "$verb" = reload ] && ! systemctl reload -- "$unit"; }; then
            say "Failed to $verb $unit"
        fi
    done
}

# PID 1 has had no job for a quarter of a second; a switch waits for that 90 s at most.
settle() {
    quiet=0 tries=0
    while [ "$quiet" -lt 2 ] && [ "$tries" -lt 360 ]; do
        if [ -z "$(systemctl list-jobs --no-legend)" ]; then quiet=$((quiet + 1)); else quiet=0; fi
        tries=$((tries + 1))
        [ "$quiet" -ge 2 ] || sleep 0.25
    done
}

# The bus by which the real one, unlike this one, talks to PID 1: it loses its connection with it.
bus() { pgrep -xo -u messagebus dbus-daemon; }

failed_units() {
    listed --state=failed
    for unit in $(listed --state=auto-restart,auto-restart-queued); do
        [ "$(systemctl show -P ExecMainStatus -- "$unit")" = 0 ] || echo "$unit"
    done
}

report() {
    known=" $(echo $active_before $to_start $to_restart) "
    fresh=$(for unit in $(listed --state=active); do
        case $known in *" $unit "*) continue ;; esac
        ! defines "$new_units" "$unit" || echo "$unit"
    done)
    tell "the following new units were started" "$fresh"
    failing=$(failed_units | sort -u)
    [ -n "$failing" ] || return 0
    tell "warning: the following units failed" "$failing"
        systemctl status --no-pager --full -- $failing >&2
    status=4
}

dry_activate() {
    tell "would stop the following units" "$to_stop"
    tell "would NOT stop the following changed units" "$to_skip"
    say "would activate the configuration..."
    "$toplevel/dry-activate" "$toplevel" >&2
    tell "would reload the following units" "$to_reload"
    tell "would restart the following units" "$to_restart"
    tell "would start the following units" "$to_start"
    exit 0
}

pid1_again() {
    if [ "$systemd_before" != "$(readlink -f "$toplevel/systemd")" ]; then
        say "restarting systemd..."
        systemctl daemon-reexec
        # It refuses calls until it is back.
        timeout 10 sh -c 'until systemctl list-jobs >/dev/null 2>&1; do sleep 0.1; done'
    fi
    systemctl reset-failed
    timeout 180 systemctl daemon-reload || die "Failed to reload daemon"
}

switch() {
    old_units=$(readlink -f "$current/etc/systemd/system")
    new_units=$(readlink -f "$toplevel/etc/systemd/system")
    systemd_before=$(readlink -f "$current/systemd")
    active_before=$(listed --state=active,activating,reloading)
    compare_units
    [ "$action" != dry-activate ] || dry_activate
    # What an interrupted switch had stopped is started by the next one.
    to_start=$(printf '%s\n' $to_start $(cat "$start_list" 2>/dev/null) | sort -u)
    printf '%s\n' $to_start $to_restart >"$start_list"
    journal "switching to system configuration $toplevel"
    tell "stopping the following units" "$to_stop"
    each stop $to_stop
    tell "NOT restarting the following changed units" "$to_skip"
    say "activating the configuration..."
    bus=$(bus)
    "$toplevel/activate" "$toplevel" >&2 || {
        say "Failed to run activate script"
        status=2
    }
    [ "$(bus)" = "$bus" ] || die "Failed to reset failed units"
    pid1_again
    to_start=$(for unit in $to_start; do ! defines "$new_units" "$unit" || echo "$unit"; done)
    tell "reloading the following units" "$to_reload"
    each reload $to_reload
    tell "restarting the following units" "$to_restart"
    each restart $to_restart
    tell "starting the following units" "$to_start"
    each start $to_start $(targets)
    settle
    rm -f "$start_list"
    report
}

# What a host file wants done before anything is stopped, with the lock held.
switch_script() {
    case $action in switch | test) ;; *) return 0 ;; esac
    [ ! -e "$toplevel/lab/switch-script" ] || sh -e "$toplevel/lab/switch-script" "$action" >&2
}

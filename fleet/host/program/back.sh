# --- the keeper, back: the old system runs, boots, and is proven to ------------------------------------

# sets: next NIXOS_NO_CHECK NIXOS_NO_SYNC
reverting() {
    if [ "$(get guarded)" = report ]; then next=superseded; return; fi
    next=stuck
    retry stop_unit "fleet-switch-$run$site"         # TERM, and KILL of its cgroup after TimeoutStopSec
    unchanged_by_others || return       # asked again after each wait: who holds the lock may be repairing the host
    export NIXOS_NO_CHECK=1 NIXOS_NO_SYNC=1
    [ ! -e rebooting ] || blame silent "the new system did not boot, or lost power before it was proven"
    [ ! -e rebooted ] || blame silent "the host rebooted during the switch"
    blame silent "somebody removed $open, or a part of it"
    remove_trial
    restore_secrets
    if booted_new && reboot_leads_back; then reboot_to_old; return; fi
    restore_boot
    if booted_new; then reboot_to_old; return; fi
    if may_have_switched; then
        switch_back || switch_by_hand || try_last_resort || return
    elif [ -e resort ]; then
        old_is_proven 180 active || return
    elif [ -e rebooted ]; then          # what was active at begin may have been started by hand
        wait_for 180 boot_has_finished
        old_is_proven 30 /dev/null || return
    fi
    weigh_blame
    boots_as_before || restore_boot     # somebody may have held the lock before
    unchanged_by_others || return
    if boots_as_before; then next=reverted; fi
}

may_have_switched() {
    [ "$(running_system)" != "$old" ] || { [ -e started ] && [ ! -e armed ] && { [ -n "$lasting" ] || [ ! -e rebooted ]; }; }
}

# Succeed if profile and boot default are those of the begin. Where that default could not be read, it is enough that this is
# not NEW.
# sets: default
boots_as_before() {
    [ "$(profile_system)" = "$old_profile" ] || return
    default=$(boot_default)
    case $(get old_boot) in
        "$default") ;;
        '') [ "$default" != "$new" ] || [ "$old_profile" = "$new" ] ;;
        *) return 1 ;;
    esac
}

# Put profile and boot loader back. Where nobody has touched them, nobody does now.
# sets: default number
restore_boot() {
    if [ ! -e commit ] && [ ! -e armed ] && boots_as_before; then return; fi
    wait_for_switch_lock
    unchanged_by_others || return
    reset_profile_link
    default=$(get old_boot)
    write_old_menu || [ -n "$default" ] || return
    boots_as_before || return           # what boots next must not be deleted
    number=$(newest_generation)
    if [ "$number" -gt "$(get newest)" ] && [ "$(readlink -f "$profile-$number-link")" = "$new" ]; then
        delete_generation "$number" && write_old_menu
    fi
}

# Let the boot loader's menu have the generations that there are, and its default be what it was.
# sets: status
write_old_menu() {
    write_boot_loader "${default:-$old_profile}"
    status=$?
    put old_boot_status $status
    sync_boot
    return $status
}

# sets: link number
reset_profile_link() {
    link=$(get old_link)
    if [ "$old_profile" != "$nothing" ] && [ "$(readlink -f "$profiles/$link")" = "$old_profile" ]; then
        number=${link#"${profile##*/}-"}
        nix_profile --switch-generation "${number%-link}"
    else
        set_profile "$old_profile"
    fi
}

# Switch to OLD by its own means, and prove it. Where nobody but its activation says what runs, one that fails has shown nothing.
# sets: seconds status
switch_back() {
    wait_for_switch_lock
    unchanged_by_others || return
    seconds=$(get activation)
    "${driver}_activate" "$old" "fleet-keep-$run"
    status=$?
    put old_status $status
    [ -z "$lasting" ] || { [ $status -eq 0 ] && note_running "$old"; } || return
    old_is_proven 5 active
}

# Switch to OLD where its own means fail, or would leave services of NEW running, and prove it.
# sets: unit seconds status
switch_by_hand() {
    unchanged_by_others || return
    set --
    "${driver}_units" "$new"
    for unit in $(cd "$units" && find . -maxdepth 1 -regex '.*\.\(service\|socket\|timer\|path\)'); do
        unit=${unit#./}
        unit_differs "$unit" || continue
        case $unit in *@.*) unit="${unit%%@.*}@*.${unit##*.}" ;; esac   # all its instances
        set -- "$@" "$unit"
    done
    seconds=$(get activation)
    "${driver}_go_back" "$old"
    status=$?
    retry manager daemon-reload
    [ $# -eq 0 ] || manager_within 90 stop -- "$@"
    if [ -n "$lasting" ]; then
        if [ $status -ne 0 ]; then note_running "$new"; put unproven "its activation fails (exit status $status)"; return 1; fi
        note_running "$old"
    fi
    old_is_proven 15 active
}

# Succeed as soon as OLD is proven: it runs with all units of file $2, nothing of it has failed since the begin, and people can
# log in. Fail after $1 seconds, and two minutes later where units are still starting. The time in which PID 1 was silent
# does not count, up to a quarter of an hour: it says nothing of any unit.
# sets: unproven soon at_last silence asked took waiting
old_is_proven() {
    restart_noted returned
    waiting=$(units_without_secrets)
    if [ -n "$waiting" ]; then
        grep -vxF -e "$waiting" "$2" >.expected
        set -- "$1" .expected
    fi
    clock
    asked=$now soon=$((now + $1)) at_last=$((now + 120)) silence=$((now + 900))
    while :; do
        unproven=$(why_old_is_unproven "$2")
        [ -n "$unproven" ] || break
        put unproven "$unproven"
        case $unproven in
            'PID 1 '*) sleep 1 ;;
            *' was active '*) sleep 2 ;;
            *) sleep 0.1 ;;
        esac
        clock
        took=$((now - asked)) asked=$now
        case $unproven in
            'PID 1 '*) soon=$((soon + took)) at_last=$((at_last + took)) ;;
            *' is still starting') [ "$now" -lt "$soon" ] || soon=$now ;;
        esac
        { [ "$asked" -le "$soon" ] && [ "$asked" -lt $at_last ] && [ "$asked" -lt $silence ]; } || return
    done
    rm -f unproven
}

# Print what is wrong with OLD, which is to run with the units of file $1; nothing where all is well. Those that are down are
# started: switch-to-configuration starts what it stopped itself, not what an interrupted one of NEW stopped, and PID 1 may
# not have listened to it.
# sets: states wrong
why_old_is_unproven() {
    [ "$(running_system)" = "$old" ] || { echo "$(running_system) runs"; return; }
    states=$(unit_states "$1") || { echo "PID 1 does not answer"; return; }
    case $states in
        inactive* | failed* | *"${newline}inactive"* | *"${newline}failed"*)
            # shellcheck disable=SC2046  # unit names have no spaces
            manager_within 90 start -- $(printf '%s\n' "$states" | sed -nE 's/^(inactive|failed) //p')
            ;;
    esac
    { states=$(unit_states "$1") && wrong=$(newly_failing); } || { echo "PID 1 does not answer"; return; }
    {
        printf '%s\n' "$states" | sed -nE 's/^(activating|reloading|refreshing) (.*)/\2 is still starting/p'
        printf '%s\n' "$states" | sed -nE 's/^([a-z-]+) (.*)/\2 was active at begin, and is \1/p' | grep -v ' is active$'
        [ -z "$wrong" ] || printf '%s\n' "$wrong" | sed 's/$/ has failed/'
        lost_secret
        lost_way_in
    } | head -n 1
}

# Print state and name of the units of file $1; fail where PID 1 does not tell all of them.
# sets: found
unit_states() {
    # shellcheck disable=SC2046  # unit names have no spaces
    set -- "$1" $(get "$1")
    [ $# -gt 1 ] || return 0
    found=$(shift && manager is-active -- "$@")
    [ "$(printf '%s\n' "$found" | grep -c .)" -eq $(($# - 1)) ] && printf '%s\n' "$found" | paste -d ' ' - "$1"
}

boot_has_finished() { case $(systemctl is-system-running 2>/dev/null) in initializing | starting) return 1 ;; esac; }

# Print the units of OLD that are failing and were not at begin; fail where PID 1 does not answer.
# sets: unit
newly_failing() {
    failing_units || return
    while read -r unit _; do
        [ -n "$unit" ] || continue
        case $newline$waiting$newline in *"$newline$unit$newline"*) continue ;; esac
        failed_before "$unit" || ! is_unit_of "$unit" "$old" || is_session_bound "$unit" "$old" ||
            is_ignored "$unit" || is_timer_driven "$unit" || printf '%s\n' "$unit"
    done <<EOF
$trouble
EOF
}

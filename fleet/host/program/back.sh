# --- the keeper, back: the old system runs, boots, and is proven to ------------------------------------

# sets: next NIXOS_NO_CHECK NIXOS_NO_SYNC
reverting() {
    if [ "$(get guarded)" = report ]; then next=superseded; return; fi
    next=stuck
    retry stop_unit "fleet-switch-$run"         # TERM, and KILL of its cgroup after TimeoutStopSec
    unchanged_by_others || return       # asked again after each wait: who holds the lock may be repairing the host
    export NIXOS_NO_CHECK=1 NIXOS_NO_SYNC=1
    [ ! -e rebooting ] || blame silent "the new system did not boot, or lost power before it was proven"
    [ ! -e rebooted ] || blame silent "the host rebooted during the switch"
    blame silent "somebody removed $open, or a part of it"
    remove_trial
    if booted_new && reboot_leads_back; then reboot_to_old; return; fi
    restore_boot
    if booted_new; then reboot_to_old; return; fi
    if may_have_switched; then switch_back || switch_by_hand || try_last_resort || return; fi
    if [ -e resort ]; then start_old_units; old_is_proven 180 || return; fi
    if [ -e armed ] && [ -e rebooted ]; then wait_for 180 boot_has_finished; [ -z "$(newly_failing)" ] || return; fi
    boots_as_before || restore_boot     # somebody may have held the lock before
    unchanged_by_others || return
    if boots_as_before; then next=reverted; fi
}

may_have_switched() { [ "$(running_system)" != "$old" ] || { [ -e started ] && [ ! -e armed ] && [ ! -e rebooted ]; }; }
boots_as_before() { [ "$(profile_system)" = "$old_profile" ] && [ "$(boot_default)" = "$(get old_boot)" ]; }

# Put profile and boot loader back. Where nobody has touched them, nobody does now.
# sets: default
restore_boot() {
    if [ ! -e commit ] && [ ! -e armed ] && boots_as_before; then return; fi
    wait_for_switch_lock
    unchanged_by_others || return
    restore_profile
    default=$(get old_boot)
    with_timeout 300 "${default:-$old_profile}/bin/switch-to-configuration" boot
    sync_boot
}

# Put the profile back, and delete the generation that we made.
# sets: number
restore_profile() {
    reset_profile_link
    number=$(newest_generation)
    if [ "$number" -gt "$(get newest)" ] && [ "$(readlink -f $profiles/system-"$number"-link)" = "$new" ]; then
        with_timeout 60 nix-env --profile $profile --delete-generations "$number"
    fi
}

# sets: link number
reset_profile_link() {
    link=$(get old_link)
    if [ "$(readlink -f "$profiles/$link")" = "$old_profile" ]; then
        number=${link#system-}
        with_timeout 60 nix-env --profile $profile --switch-generation "${number%-link}"
    else
        with_timeout 60 nix-env --profile $profile --set "$old_profile"
    fi
}

# Switch to OLD by its own means, and prove it.
switch_back() {
    wait_for_switch_lock
    unchanged_by_others || return
    with_timeout "$(get activation)" "$old/bin/switch-to-configuration" test
    start_old_units
    old_is_proven 5
}

# Switch to OLD where its own means fail, or would leave services of NEW running, and prove it.
# sets: unit
switch_by_hand() {
    unchanged_by_others || return
    set --
    for unit in $(cd "$new/etc/systemd/system" && find . -maxdepth 1 -regex '.*\.\(service\|socket\|timer\|path\)'); do
        unit=${unit#./}
        unit_differs "$unit" || continue
        case $unit in *@.*) unit="${unit%%@.*}@*.${unit##*.}" ;; esac   # all its instances
        set -- "$@" "$unit"
    done
    with_timeout "$(get activation)" "$old/activate" "$old"
    retry systemctl daemon-reload
    [ $# -eq 0 ] || with_timeout 90 systemctl stop -- "$@"
    start_old_units
    old_is_proven 15
}

# Start what was active at begin. switch-to-configuration starts what it stopped itself, not what an interrupted one of
# NEW stopped.
start_old_units() {
    # shellcheck disable=SC2046  # unit names have no spaces
    set -- $(get active)
    # shellcheck disable=SC2046
    set -- $(systemctl is-active -- "$@" | paste - active | grep -E '^(inactive|failed)' | cut -f 2)
    [ $# -eq 0 ] || with_timeout 90 systemctl start -- "$@"
}

# Succeed as soon as OLD runs with all that was active at begin, and nothing of it has failed since. Fail after $1 seconds,
# later where units are still starting.
# sets: soon at_last states up
old_is_proven() {
    soon=$(($(now) + $1)) at_last=$(($(now) + 120))
    # shellcheck disable=SC2046  # unit names have no spaces
    set -- $(get active)
    while :; do
        states=
        [ $# -eq 0 ] || states=$(systemctl is-active -- "$@")
        up=$(printf '%s\n' "$states" | grep -cx active)
        if [ "$(running_system)" = "$old" ] && [ "$up" -eq $# ] && [ -z "$(newly_failing)" ]; then return 0; fi
        case $states in *activating* | *reloading*) ;; *) [ "$(now)" -lt $soon ] || return 1 ;; esac
        [ "$(now)" -lt $at_last ] || return 1
        sleep 0.1
    done
}

boot_has_finished() { case $(systemctl is-system-running 2>/dev/null) in initializing | starting) return 1 ;; esac; }

# Print the units of OLD that are failing and were not at begin.
newly_failing() {
    failing_units | while read -r unit _; do
        failed_before "$unit" || ! is_unit_of "$unit" "$old" || is_session_bound "$unit" "$old" ||
            is_ignored "$unit" || is_timer_driven "$unit" || printf '%s\n' "$unit"
    done
}

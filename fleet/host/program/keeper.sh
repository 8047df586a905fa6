# --- the keeper, forward: each state is one function, and names the next -------------------------------

# Keep run $1, and no other, from the state that it is in to its end.
# sets: next state old_profile
keep() {
    [ -d $open ] || ( recover )         # somebody has removed it: there is the record
    enter $open "$1" || exit 0
    read_systems
    read_line old_profile
    old_profile=$text
    read_line state
    state=$text
    [ -p .bell ] || mkfifo .bell        # somebody has removed it
    if [ -p .bell ]; then exec 8<>.bell; fi
    take_turn
    # What activates in the course of a boot does so first.
    [ -z "$lasting" ] || [ ! -e rebooted ] || wait_for 180 boot_has_finished
    while :; do
        exit_if_closed
        next=reverting                  # where a state comes to no good end, or is none
        case $state in
            switching | switched | committing | reverting | arming | rebooting) $state ;;
            committed | tested | reverted | stuck | superseded) break ;;
        esac
        # What a shutdown has ended or hides, the next boot settles.
        [ "$state" = rebooting ] || wait_for 1800 not_shutting_down
        state=$next
        put state "$state"
        take_turn
    done
    finish
}

# Hold a lock for as long as the state is this one, and let go of that of the state before: whoever watches waits for it. What
# is started meanwhile has the lock too, and must have ended by then, or not have file 7.
take_turn() {
    if true >".turn-$state"; then exec 7>".turn-$state" && flock -w 1 7; fi
}

# Wake the keeper of the transaction that we are in. Where it does not wait, this is forgotten.
ring() { [ ! -p .bell ] || echo 1<>.bell; }

# Wait until $1, a command, succeeds. It is tried whenever somebody rings, and each second: `timeout` ends with 124 then. Where
# it fails in any other way, as it does without a bell, $1 is tried more often: nothing but its success ends this.
wait_for_bell() {
    until "$@"; do
        timeout 1 head -c 1 2>/dev/null <&8 >/dev/null 7>&- || [ $? -eq 124 ] || sleep 0.2
    done
}

# Exit where somebody has removed the transaction that we are in: the keeper that is started then sees what there is.
# shellcheck disable=SC3013  # POSIX since 2024
exit_if_closed() { [ . -ef $open ] || exit 1; }

not_shutting_down() {
    # In the very end of a shutdown PID 1 does not answer any more.
    case $(systemctl is-system-running 2>/dev/null) in '' | stopping | offline | unknown) return 1 ;; esac
}

# Succeed if the controller has left a word that ends this state.
# sets: next said class reason
told_to_stop() {
    exit_if_closed
    read -r said class reason 2>/dev/null <word || return
    case $said in
        abandon) blame "$class" "$reason" ;;
        replaced) next=superseded; retry stop_unit "fleet-switch-$run$site" ;;
        *) return 1 ;;
    esac
    return 0
}

# Succeed if nobody but us has switched or set the profile since the begin. Else it is hands off.
# sets: next
unchanged_by_others() {
    find_systems
    read_line moved
    if is_accounted_for "$running" "$old" && is_accounted_for "$profiled" "$old_profile" "$text"; then return; fi
    next=superseded
    return 1
}

# Succeed if system $1 is what was there, $2 or $3, or what we or a reboot have put there.
is_accounted_for() {
    [ "$1" = "$2" ] || [ "$1" = "${3:-$2}" ] || { [ "$1" = "$new" ] && may_have_acted; } ||
        { [ -e rebooted ] && [ "$1" = "$(get old_boot)" ]; }
}

may_have_acted() { [ -e started ] || [ -e commit ] || [ "$(get goal)" = boot ]; }

# sets: looks next
switching() {
    [ -z "$lasting" ] || install_waker || { blame silent "systemd does not read $attached"; return; }
    write_record || [ -e guarded ] || { blame silent "cannot write $record"; return; }
    [ -e started ] || prepare_start || return
    write_secrets before || { blame silent "$why"; return; }
    retry start_switch || { blame silent "PID 1 does not start the switch"; return; }
    looks=0
    wait_for_bell activation_is_over
    if [ ! -e status ] || [ -e blame ] || [ "$next" != reverting ]; then return; fi
    read_line status
    case $text in
        0 | 4) ;;                       # 4: some unit failed. The proof decides whether it counts
        2) if ! may_fail; then blame found "activation failed with exit status 2"; return; fi ;;
        11) blame silent "another switch holds the lock (exit status 11)"; return ;;
        1) blame_refusal; return ;;
        100) blame silent "needs a reboot: the init interface differs (exit status 100)"; return ;;
        129 | 1[3-9]? | 2??) blame silent "activation was killed (exit status $text)"; return ;;
        *) blame found "activation failed with exit status $text"; return ;;
    esac
    write_secrets after || { blame silent "$why"; return; }
    if [ -e due ]; then
        put_deadline activation
        restart_noted due
    fi
    restart_counts || { blame silent "PID 1 does not answer"; return; }
    put restarts "$counts" || { blame silent "cannot write $open"; return; }
    put_deadline confirm
    next=switched
}

# Succeed if the activation has ended, or must. A full /run keeps nobody from that.
# sets: looks
activation_is_over() {
    [ ! -e status ] || return 0
    if told_to_stop; then return; fi
    if past_deadline; then blame_overrun; return 0; fi
    looks=$(((looks + 1) % 3))          # to ask PID 1 takes it time
    if [ $looks -ne 0 ] || ! is_inactive "fleet-switch-$run$site" || [ -e status ]; then return 1; fi
    blame silent "activation was killed"
    return 0
}

# Put down that we act from now on, unless somebody else acts or we are told not to.
prepare_start() {
    wait_for_switch_lock || { blame silent "another switch holds the lock: $(switch_lock_holder)"; return 1; }
    if past_deadline || told_to_stop; then blame silent "did not start in time"; return 1; fi
    unchanged_by_others || return
    put_deadline activation
    put started "$now" || return
    [ -z "$lasting" ] || note_running "$new" || { blame silent "cannot write $record"; return 1; }
}

start_switch() {
    if [ -e launched ] || [ -e status ]; then return; fi
    # shellcheck disable=SC2086  # words
    start_unit "fleet-switch-$run$site" --description="fleet: switches to $new" "$program" $called activate "$run" && put launched yes
}

# Switch, in a unit of its own: what this writes is in the journal.
# sets: new status
activate() {
    enter $open "$1" || exit 0
    read_line new
    new=$text
    if [ -e guarded ]; then wait_for_other_switch; else "${driver}_activate" "$new" "fleet-switch-$run$site"; fi
    status=$?
    if [ ! -e guarded ]; then
        [ -z "$lasting" ] || note_running "$new"
    elif [ "$status" -eq 4 ] || { [ "$status" -eq 2 ] && [ -e snippet ]; }; then
        if activation_fails; then status=2; fi
    fi
    put status "$status"
    ring
}

# Succeed if the activation script of somebody else's switch failed, which has told a terminal. So it is run once more, as every
# boot does: that changes nothing where it is well.
activation_fails() {
    [ "$(running_system)" = "$new" ] && [ -x "$new/activate" ] || return
    with_timeout 300 env NIXOS_ACTION=test "$new/activate" "$new"
    case $? in 0 | 124 | 137) return 1 ;; esac
}

# Succeed if only such snippets of NEW's activation have failed as may.
# sets: failed
may_fail() {
    [ -e snippet ] && failed=$(failed_snippets "fleet-switch-$run$site") && [ -n "$failed" ] &&
        ! printf '%s\n' "$failed" | grep -qvxFf snippet
}

said_by() { journalctl -q -o cat "_SYSTEMD_UNIT=$1.service"; }

# sets: next
switched() {
    if [ -e guarded ]; then prove; return; fi
    [ -e limit ] || { clock; read_line trial; put limit $((now + ${text:-86400})); }         # a record of an older program has none
    [ -e rebooting ] || take_notes
    wait_for_bell proof_is_over
    read_line word
    if [ "$text" != confirm ] || [ -e blame ]; then return; fi
    if [ "$(get goal)" = test ]; then next=tested; else next=committing; fi
}

# Succeed if NEW has been on trial for as long as it may be. No look moves that.
past_limit() { clock; read_line limit && [ "$now" -ge "$text" ] 2>/dev/null; }

# Succeed if the controller has confirmed, or nobody will.
proof_is_over() {
    read_line word
    if [ "$text" = confirm ] || told_to_stop; then return; fi
    if past_deadline; then blame silent "nobody confirmed within $(get confirm) s"; return 0; fi
    if past_limit; then blame silent "nobody confirmed within $(get trial) s, though somebody looked"; return 0; fi
    [ -e rebooting ] && trial_has_failed
}

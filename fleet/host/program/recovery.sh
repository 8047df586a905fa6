# --- what every contact does first: what a reboot left open, and a keeper that died --------------------

# Settle what a reboot left open, and start a keeper that died or does not act. Where that is another program's to do, it
# may answer the question $1 too.
recover() {
    if [ ! -d $open ] && has_leftovers; then
        if enter $record/open && record_is_complete && ! is_of_our_format; then hand_over "$@"; return; fi
        lock_opening
        reopen_record
        exec 9>&-
    fi
    if enter $open; then
        if ! is_of_our_format; then hand_over "$@"; return; fi
        if keeper_hangs && clock && put deadline "$now"; then systemctl kill -s KILL "fleet-keep-$run"; fi  # the next has time
        keeper_has_turn || ensure_keeper
        wait_until_closed
    fi
}

# Succeed if somebody holds the lock of this state: that is its keeper, which lives. To ask PID 1 would cost more, and each
# contact asks. Who fails here may find that the keeper is between two states.
keeper_has_turn() {
    read_line state
    [ -e ".turn-$text" ] || return
    { flock -s -n 6; } 2>/dev/null 6<".turn-$text"
    [ $? -eq 1 ]
}

# Succeed if the keeper should have acted on the deadline long ago. That of a guarded switch asks checks then, and other
# states may wait for a lock first.
keeper_hangs() {
    read_line state
    case $text in switching) [ -e started ] ;; switched) [ ! -e guarded ] ;; *) false ;; esac && past_deadline 15
}

# sets: left
has_leftovers() {
    set +f
    for left in $record/open "$roots"/*T*-old; do if [ -e "$left" ] || [ -L "$left" ]; then break; fi; done
    set -f
    [ -e "$left" ] || [ -L "$left" ]
}

# Open again what a reboot left open, or somebody removed: a record that is not in /run.
# sets: state window
reopen_record() {
    [ ! -d $open ] || return
    if [ -d $record/open ] && ! record_is_complete; then rm -rf $record/broken; mv -T $record/open $record/broken; fi
    enter $record/open || { forget_unrecorded; return; }
    is_of_our_format || return
    if enter $closed "$run"; then       # it has ended, and that could not be written
        read_systems
        read_line state
        state=$text
        record_end
        return
    fi
    rm -rf $draft && copy_transaction $record/open $draft && enter $draft || return
    if [ "$(get boot_id)" = "$(boot_id)" ]; then put started yes; else put rebooted yes && { [ -z "$lasting" ] || put started yes; }; fi || return
    state=reverting window=
    read_systems
    if [ -e commit ] && [ "$(running_system)" = "$new" ]; then state=committing         # NEW was proven: finish it
    elif [ -e guarded ] && [ "$(running_system)" = "$new" ]; then state=switched window=confirm         # it has booted
    elif is_on_trial; then state=switched window=boot
    fi
    [ -z "$window" ] || put_deadline $window || return
    put state $state && mv -T $draft $open
}

# sets: part
record_is_complete() { for part in run new old program; do read_line $record/open/$part && [ -n "$text" ] || return; done; }

# Forget a run that lost the host before it was on record: it had done nothing.
forget_unrecorded() {
    rm -rf $record/.open $record/.serial $record/.history
    find $roots -name '*T*-old' | while read -r dead; do dead=${dead##*/}; unroot_run "${dead%-old}"; done
}

# An end is told when nothing of its transaction is left.
wait_until_closed() { wait_for 2 not_closing; }

not_closing() {
    read_line $open/state
    case $text in committed | tested | reverted | stuck | superseded) return 1 ;; esac
}

# Let a keeper run for the transaction that we are in. PID 1 holds one unit of a name: that is the lock.
ensure_keeper() { retry start_keeper || refuse broken "PID 1 does not start the keeper fleet-keep-$run"; }

start_keeper() {
    read_line $open/run
    [ "$run" = "$text" ] || return 0    # it has ended meanwhile
    # shellcheck disable=SC2086  # words
    start_unit "fleet-keep-$run" --description="fleet: keeps run $run" \
        -p Type=exec -p DefaultDependencies=no -p IgnoreOnIsolate=yes -p OOMScoreAdjust=-1000 \
        -p Restart=always -p RestartSec=0.1 -p RestartPreventExitStatus=0 -p StartLimitIntervalSec=0 \
        "$(get program)" $called keep "$run"
}

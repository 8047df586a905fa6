# --- a switch by somebody else, watched with no controller ---------------------------------------------

# Watch a switch to system $1 by somebody else, who calls this in the course of action $2, and waits. The title of the order
# and what the system wants of it is read from stdin.
# sets: fallback old run said
guard() {
    case $2 in switch | test) ;; *) return 0 ;; esac
    if enter $open; then
        [ -e guarded ] || return 0      # fleet proves what it has switched itself
        knows_word_replaced || return   # nobody watches this switch then, and the other program sees it
        { put word replaced && ring && wait_for 10 test ! -d $open; } || return         # that one will not be proven any more
        fallback=$(get old)
    fi
    old=${fallback:-$(running_system)}
    [ "$1" != "$old" ] || return 0
    run=$(date -u +%Y%m%dT%H%M%S)-$(printf %06x $$)
    said=$({
        IFS= read -r title
        printf '%s\n' "$title" "run $run" "new $1" "expected $old" "goal test" "by ${SUDO_USER:-root}" "from guard" \
            "activation 3600" "retry yes"
        cat
    } | begin)
    echo "$said"
    [ "$said" = "begun=$run" ]
}

# Wait until that switch has ended, and return its exit status, by what it told the journal.
# sets: said
wait_for_other_switch() {
    until switch_lock_is_free; do sleep 0.2; done
    with_timeout 10 journalctl --sync
    said=$(journalctl -q -o cat -t nixos _UID=0 --since="@$(get since)" | grep -F -- "$new" | tail -n 1)
    case $said in
        finished*) return 0 ;;
        *' (status '*) said=${said##* }; return "${said%)}" ;;
        switching*) return 137 ;;       # it was cut short
        *) return 4 ;;                  # there is no journal: the proof decides
    esac
}

# Prove NEW until the deadline, and then ask what must be so in the end.
# sets: next bad asked
prove() {
    until past_deadline || [ "$(running_system)" != "$new" ]; do
        sleep 1
        if told_to_stop; then return; fi
        bad=$(judge_units | grep ^bad=) && break
    done
    bad=${bad:-$( (judge_units) || echo 'bad=PID 1 does not answer')}
    bad=$(printf '%s\n' "$bad" | sed -n '/^failing_before/!{s/^[a-z]*=//p;q}')
    asked=$(get ask)
    if [ "$(running_system)" != "$new" ]; then
        if prove_replaced; then next=switched; else next=superseded; fi
    elif [ -n "$bad" ]; then
        blame found "$bad"
    elif [ -n "$asked" ] && ! systemctl start "$asked"; then
        blame found "$asked has failed"
    else
        next=tested
    fi
    [ "$next" != reverting ] || account_for_profile
}

# Let the profile be no reason to leave a bad system alone where it names what neither runs nor boots: a switch that was
# refused has set it, before it asked.
# sets: default
account_for_profile() {
    default=$(boot_default)
    [ -z "$default" ] || [ "$default" = "$(profile_system)" ] || put moved "$(profile_system)"
}

# Where that switch has come to nothing, what it was to replace still runs, and its proof was cut short: begin that anew.
# sets: new replaced key
prove_replaced() {
    replaced=$(get replaced)
    [ -n "$replaced" ] && [ "$(running_system)" = "$replaced" ] || return
    new=$replaced
    set_root "$run-new" "$new" && put_durably new "$new" && rm -f replaced restarts || return
    for key in confirm guarded threshold ask ignore snippet; do { rm -f $key && cp $closed/$key .; } 2>/dev/null; done
    put_deadline confirm
}

# --- who is to blame ------------------------------------------------------------------------------------
#
# This is the rule: the closure is blamed, which is `found` and puts it into quarantine, only for what it did itself and what
# OLD does not do too. What speaks against it is `found` at first. On the way back OLD does the same: it is activated, and
# its boot loader installed. Where that fails in the same way, or where the surroundings were not fit for it, it is
# `silent` in the end. A controller that sees a check fail with OLD too takes the blame back by `acquit`.

# Say that the way goes back for reason $2, and whether NEW was `found` bad or nobody knows: `silent`. The first reason
# stays.
blame() { [ -e blame ] || { put reason "$2" && put blame "$1"; }; }

# Say that the activation did not end in time, and for which job it waited. That of a unit which OLD has too, as it is, is not
# the fault of NEW.
# sets: jobs unit
blame_overrun() {
    jobs=$(with_timeout 10 systemctl list-jobs --full --plain --no-legend | while read -r _ unit _ doing _; do
        case $unit:$doing in fleet-*) ;; *:running) echo "$unit" ;; esac
    done)
    set -- "activation did not end within $(get activation) s"
    [ -z "$jobs" ] || set -- "$1: it waits for $(printf '%s\n' "$jobs" | head -n 3 | paste -sd ' ')"
    for unit in $jobs; do
        if ! is_unit_of "$unit" "$new" || ! unit_differs "$unit"; then blame silent "$1"; fi
    done
    blame found "$1"
}

# Say that switch-to-configuration has ended with 1: that is how it refuses too, by a check of the host's own that looks at what
# is around it now. Nothing has been switched then, and OLD's way back asks no checks.
# sets: checks
blame_refusal() {
    with_timeout 10 journalctl --sync
    checks=$(said_by "fleet-switch-$run$site" | sed -n "s/^Pre-switch check '\(.*\)' failed.*/\1/p" | head -n 3 | paste -sd ' ')
    if said_by "fleet-switch-$run$site" | grep -qxF 'Pre-switch checks failed'; then
        blame silent "a pre-switch check refuses${checks:+: $checks} (exit status 1)"
    else
        blame found "activation failed with exit status 1"
    fi
}

# Take the blame from NEW where something else explains what happened.
# sets: why
weigh_blame() {
    [ "$(get blame)" = found ] || return 0
    why=$(excuse)
    [ -z "$why" ] || { put reason "$(get reason): $why" && put blame silent; }
}

# Print what explains that NEW has failed; nothing where only NEW does.
# sets: place
excuse() {
    if [ -e changed ]; then echo "a secret has changed with it"; return; fi
    case $(get reason) in
        'own check '*) ! own_check_fails_too || echo "it fails with the old system too" ;;
        *'boot loader'* | 'commit:'*)
            find_boot_folders
            for place in $profiles $folders; do
                case ,$(findmnt -n -o OPTIONS --target "$place" | tail -n 1), in
                    *,ro,* | *,emergency_ro,*) echo "$place is read-only"; return ;;     # the latter is ext4's, after an error
                esac
            done
            case $(get old_boot_status) in '' | 0 | 11) ;; *) echo "the old system's boot loader fails too" ;; esac
            ;;
        'activation failed'*)
            if were_snippets_killed; then echo "what it ran was killed"; return; fi
            [ -e old_status ] && [ "$(get old_status)" = "$(get status)" ] && old_snippets_fail_too && echo "the old system's activation fails too"
            ;;
    esac
}

# Succeed if each snippet that has failed in NEW's activation was killed from outside, as where no memory is left.
# sets: statuses
were_snippets_killed() {
    statuses=$(said_by "fleet-switch-$run$site" | sed -n "s/^Activation script snippet '.*' failed (\([0-9]*\)).*/\1/p")
    [ -n "$statuses" ] && ! printf '%s\n' "$statuses" | grep -qvxE '137|143'
}

# Succeed if each snippet that has failed in NEW's activation has failed in OLD's too.
old_snippets_fail_too() {
    failed_snippets "fleet-keep-$run" >.snippets
    ! failed_snippets "fleet-switch-$run$site" | grep -qvxFf .snippets
}

# Print the snippets of an activation that failed, by what unit $1 has written.
failed_snippets() {
    with_timeout 10 journalctl --sync
    said_by "$1" | sed -n "s/^Activation script snippet '\(.*\)' failed.*/\1/p"
}

# Take the blame from run $1, which was the last: what has spoken against NEW, $2, speaks against OLD too.
# sets: text folder
acquit() {
    wait_for 30 not_closing             # a slow disk: the blame is not on record yet
    lock_opening
    enter_last && [ "$run" = "$1" ] && [ "$(get blame)" = found ] || return 0
    text=$(get new)
    ! grep -qF "(run $1)" "$record/quarantine/${text##*/}" || rm -f "$record/quarantine/${text##*/}"
    for folder in $closed $record/last; do ( enter "$folder" "$1" && put blame silent ); done
    answer acquitted yes
}

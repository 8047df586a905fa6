# --- the end, and what outlives a reboot ---------------------------------------------------------------

# Close the transaction. A keeper may die here too: each step may be done twice.
finish() {
    read_line state
    [ "$text" = "$state" ] || { rm -f active failing; put state "$state"; }     # a full /run
    put ended "$(date +%s)"
    set +f
    rm -f .bell .turn-*
    set -f
    { [ ! -e commit ] && [ ! -e armed ] && [ -z "$lasting" ]; } || put own_link "$(profile_link)"    # we may have set it ourselves
    [ "$state" = stuck ] || forget_old_secrets
    [ ! -e guarded ] || echo "the switch to $new: $state $(get reason)"
    remove_trial
    record_end
    remove_waker                        # only now: a boot before would have found a record, and nobody to read it
    rm -rf $closed
    mv -T $open $closed
}

# Write to the disk which systems to keep, which to refuse, and how the run ended.
# sets: default
record_end() {
    case $state in
        committed | tested)
            note_way_back
            rm -f "$record/quarantine/${new##*/}"
            [ "$state" = tested ] || rm -f $roots/boots
            [ "$(readlink $roots/staged)" != "$new" ] || rm -f $roots/staged
            set_root live "$new"
            remember_secrets
            [ "$old" = "$new" ] || [ "$old" = $nothing ] || set_root previous "$old"
            ;;
        reverted)
            set_root live "$old"
            [ "$(get blame)" != found ] || quarantine
            ;;
        *)
            set_root live "$(running_system)"
            [ "$(running_system)" = "$old" ] || [ "$old" = $nothing ] || set_root previous "$old"
            default=$(boot_default)     # it may be neither of them, and whoever made it so may not have kept it
            [ -z "$default" ] || set_root boots "$default"
            ;;
    esac
    unroot_run "$run"
    remember
    rm -rf $record/.open $record/.last
    if copy_transaction . $record/.last; then
        rm -rf $record/last && mv -T $record/.last $record/last
    else
        rm -rf $record/.last            # a full disk; what is there is told by $closed, until a reboot
    fi
    mv -T $record/open $record/.open && rm -rf $record/.open    # never half of it
    sync -f $record
}

quarantine() {
    mkdir -p $record/quarantine
    printf '%s (run %s)\n' "$(get reason)" "$run" >"$record/quarantine/${new##*/}"
}

unroot_run() { rm -f "$roots/$1-new" "$roots/$1-program" "$roots/$1-old"; forget_staged "$1"; }

# Copy the transaction in folder $1 to $2, which is not there. Words come meanwhile. What hides is no part of it: it is ours as
# long as we live, or a word that does not have its name yet. And `cp` fails for a file that was replaced as it began.
copy_transaction() {
    set +f
    mkdir "$2" && { cp -r "$1"/* "$2" || cp -r "$1"/* "$2"; }
    set -f -- $?
    return "$1"
}

# Copy the transaction to the disk, and with it its serial and all that was pushed for it.
write_record() {
    read_line $record/open/run
    [ "$run" != "$text" ] || return 0
    read_line serial
    rm -rf $record/open $record/.open && copy_transaction . $record/.open && echo "$text $run" >$record/.serial &&
        sync -f $record /nix/store && sync_pushes "$run" && mv -f $record/.serial $record/serial &&
        mv -T $record/.open $record/open && sync -f $record
}

put_durably() { printf '%s\n' "${2:-yes}" >"$record/open/$1" && sync -f $record && put "$1" "${2:-yes}"; }

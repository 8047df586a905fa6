# --- what a power cut has damaged ----------------------------------------------------------------------
#
# Nix registers a path without syncing its files: after a power cut it may call a path valid that is empty. So whatever
# brings paths leaves a mark on the disk first, and holds a lock on it for as long as it runs (leave-mark.sh). Whoever has
# synced the store takes free marks away, and no run begins while there is one of an earlier boot.

# Let $marks be all of them.
# sets: marks mark
find_marks() {
    marks=
    set +f
    for mark in "$unsynced"/*; do [ ! -f "$mark" ] || marks="$marks $mark"; done
    set -f
}

of_this_boot() { [ "$(get "$1")" = "$(boot_id)" ]; }

# Let $earlier be those of earlier boots, a line for each.
# sets: earlier mark
find_earlier_marks() {
    find_marks
    earlier=
    for mark in $marks; do of_this_boot "$mark" || earlier="${earlier:+$earlier$newline}$mark"; done
}

# Sync what was pushed, and take the marks of it away. That of run $1 may be held for a moment, others for long.
# sets: mark patience
sync_pushes() {
    find_marks
    for mark in $marks; do
        of_this_boot "$mark" || continue
        if [ "${mark##*/}" = "$1" ]; then patience=5; else patience=0; fi
        # shellcheck disable=SC2094  # it is only locked
        ( flock -w $patience 8 || exit 0; sync -f /nix/store && unlink "$mark" ) 8<"$mark" || [ ! -e "$mark" ] || return
    done 2>/dev/null
}

# Look at all that was written since the oldest mark of an earlier boot: nothing is valid in name only afterwards.
# sets: since bad mark report
verify() {
    mkdir -p /run/fleet && exec 7>/run/fleet/.verifying
    flock -n 7 || refuse broken "somebody else looks already for what a power cut has damaged here: deploy again later"
    find_earlier_marks
    [ -n "$earlier" ] || return 0
    # shellcheck disable=SC2086  # run ids have no spaces
    since=$(stat -c %Y $earlier | sort -n | head -n 1)
    bad=$(unregister_missing && corrupt_since $((since - 1))) ||
        refuse broken "cannot look for what a power cut has damaged: nix-store fails, or waits for a garbage collection"
    lock_opening
    for mark in $earlier; do unroot_run "${mark##*/}"; done
    report=$(for path in $bad; do
        if delete_damaged "$path"; then answer damaged "$path"; continue; fi
        echo "$path" >>$damaged
        answer kept "$path"
    done)
    sync -f /nix/store $record
    # shellcheck disable=SC2086  # run ids have no spaces
    rm -f $earlier
    printf '%s\n' "$report"
}

# Let Nix forget the valid paths that are not there, and print those that it cannot forget since others need them.
# sets: said
unregister_missing() {
    if said=$(with_timeout 600 nix-store --verify 2>&1); then return; fi
    printf '%s\n' "$said" | sed -n "s/^.*path '\([^']*\)' disappeared, but it still.*/\1/p" | grep .
}

# Print the valid paths that were written after second $1 of the clock and have not the content that Nix knows.
corrupt_since() {
    # shellcheck disable=SC2016  # for another shell
    find /nix/store -maxdepth 1 -regextype posix-extended -regex '/nix/store/[0-9a-z]{32}-[^/]+' -newerct "@$1" -exec sh -fc '
        invalid=$(nix-store --check-validity --print-invalid "$@") || exit
        set -- $(printf "%s\n" "$@" | grep -vxF "${invalid:-none}")
        nix-store --verify-path "$@" 2>/dev/null && exit
        for path; do nix-store --verify-path "$path" 2>/dev/null || echo "$path"; done' sh '{}' +
}

# Delete path $1 and what needs it. Where something else keeps it, this fails: then nobody deploys what needs it.
# sets: doomed
delete_damaged() {
    nix-store --check-validity "$1" 2>/dev/null || return 0
    doomed=$(nix-store --query --referrers-closure "$1") && [ -n "$doomed" ] || return
    ! printf '%s\n' "$doomed" | grep -qxF "$(readlink $roots/staged)" || rm -f $roots/staged
    # shellcheck disable=SC2086  # store paths have no spaces
    with_timeout 600 nix-store --delete --option keep-derivations false --option keep-outputs false $doomed >&2
}

# Print the damaged paths that closure $1 needs, and that nobody has mended.
# sets: path
damaged_parts_of() {
    [ -e $damaged ] || return 0
    for path in $(nix-store --query --requisites "$1" | grep -xF -f $damaged); do
        nix-store --verify-path "$path" 2>/dev/null || echo "$path"
    done
}

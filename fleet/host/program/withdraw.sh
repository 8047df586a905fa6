# --- taking back a plan --------------------------------------------------------------------------------

# Draw a new serial, where the newest is still $2: no part of a plan that was made for it begins any more, wherever copies of it
# are. The history tells it as run $1, by $3 from $4, of plan $5. It needs no signature, since it lets nothing happen.
withdraw() {
    lock_opening
    ! find_open || refuse_open
    [ ! -d $record/open ] || refuse full "cannot write $record, or /run/fleet"          # recover has tried
    find_serial
    [ "$serial" = "$2" ] || return 0    # something has happened since: it is worthless already
    next_serial
    keep_on_record serial "$serial $1" || refuse full "cannot write $record"
    find_systems
    ( ! enter_last || remember )        # what an older program or a full disk has kept from there
    append_history "$(print_withdrawal "$@")"
    answer serial "$serial"
}

# Print the withdrawal with these arguments as a line of the history.
print_withdrawal() {
    for word in "$serial" "$1" "$3" "$4" "$(date +%s)" "$(date +%s)" "$running" "$running" withdrawn - - "$5" - - "a plan was withdrawn"; do
        printf '%.200s\n' "$(printf %s "$word" | tr -c ' -~' '?')"
    done | paste -s
}

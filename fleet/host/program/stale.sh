# --- whether a host is still as it was planned for -------------------------------------------------------

# Refuse the order where anything has happened since it was planned, and tell what.
# sets: why link
require_current() {
    find_serial
    link=$(profile_link) why=
    [ "$(get expected)" = "$old" ] || why="$(get expected) ran here when this was planned, and now $old does"
    [ "$planned_serial" = "$serial" ] ||
        why="${why:+$why; }the newest transaction was $planned_serial when this was planned, and now is $serial"
    [ "$planned_link" = "$link" ] ||
        why="${why:+$why; }the system profile was $planned_link when this was planned, and now is $link"
    [ -n "$why" ] || return 0
    ! may_begin_again || return 0
    ( decline stale "$why" )
    exec 9>&-                           # whoever does not read the answer holds nobody up
    history "$planned_serial"
    exit 0
}

# Succeed if the newest transaction was of this very part, went back because nobody was there, and nobody else has done
# anything. Where it ended otherwise that is the answer to the order.
# sets: last own_link key
may_begin_again() {
    last=$closed
    [ -e $last/run ] || last=$record/last
    [ "$(get $last/part)" = "$(get part)" ] && serial_of $last && [ "$text" = "$serial" ] || return
    case $(get $last/state):$(get $last/blame) in
        reverted:silent)
            own_link=$(get $last/own_link)
            [ "$(get expected)" = "$old" ] && [ "${own_link:-$planned_link}" = "$link" ]
            return
            ;;
    esac
    ( decline ended "run $(get $last/run) was of this very part, and ended $(get $last/state)" )
    for key in state blame reason; do read_line $last/$key; answer $key "$text"; done
    exit 0
}

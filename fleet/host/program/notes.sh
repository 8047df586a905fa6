# --- what people should know of a switch that went well -------------------------------------------------

# Write a line for each: what switch-to-configuration could not do though no unit has failed, which snippets failed that may,
# and which services were changed and run on as OLD has started them.
take_notes() {
    {
        read_line status
        case $text in
            2) failed_snippets "fleet-switch-$run$site" | sed "s/.*/activation script '&' failed, which ignore_snippets allows/" ;;
            4) failed_jobs ;;
        esac
        [ ! -e due ] || unknown_units due | sed 's/.*/there is no unit &, which is to be restarted when a secret changes/'
        not_restarted | sed 's/.*/& was changed, and still runs as before: systemctl restart & there, or reboot/'
    } >notes
    [ -s notes ] || rm notes
}

# Print the jobs that failed; where that tells nothing, and no unit has failed, the exit status.
# sets: jobs uncounted
failed_jobs() {
    jobs=$(said_by "fleet-switch-$run$site" | grep -E '^Failed to (reload|restart|start|stop) ')
    if [ -n "$jobs" ]; then
        printf '%s\n' "$jobs" | sort -u | head -n 20 | sed 's/^/exit status 4 of switch-to-configuration: /'
    elif failing_units; then
        uncounted=$(printf '%s\n' "$trouble" | while read -r unit _; do
            [ -z "$unit" ] || failed_before "$unit" || counts_against_new "$unit" || echo "$unit"
        done | head -n 5 | paste -sd ' ')
        if [ -z "$trouble" ]; then
            echo "exit status 4 of switch-to-configuration, and no unit has failed"
        elif [ -n "$uncounted" ]; then
            echo "exit status 4 of switch-to-configuration, and these have failed, which do not count: $uncounted"
        fi
    fi
}

# Print the services whose definition has changed and which switch-to-configuration has started anew, or so it says, though
# their main process is older than what PID 1 has read for that: something had started them in between. What it has read since,
# for somebody else, says nothing.
# sets: changed loaded started found id main began
not_restarted() {
    [ $driver = nixos ] || return 0
    changed=$(changed_services)
    [ -n "$changed" ] || return 0
    # shellcheck disable=SC2086  # unit names have no spaces
    loaded=$(systemctl show --property=UnitsLoadTimestampMonotonic --value) && found=$(systemctl show \
        --property=Id --property=MainPID --property=ExecMainStartTimestampMonotonic -- $changed) || return 0
    with_timeout 10 journalctl --sync
    started=$(time_of_starting)
    [ "${started:-${loaded:-0}}" -ge "${loaded:-0}" ] || loaded=$started
    id='' main=0 began=0
    printf '%s\n\n' "$found" | while IFS='=' read -r key value; do
        case $key in
            Id) id=$value ;;
            MainPID) main=$value ;;
            ExecMain*) began=$value ;;
            '')
                if [ "${main:-0}" -gt 0 ] && [ "${began:-0}" -lt "${loaded:-0}" ] && was_to_restart "$id"; then echo "$id"; fi
                id='' main=0 began=0
                ;;
        esac
    done
}

# Print when switch-to-configuration began to start units, in microseconds since the boot; nothing if that is not known.
time_of_starting() {
    journalctl -q -o short-monotonic "_SYSTEMD_UNIT=fleet-switch-$run$site.service" |
        sed -nE 's/^\[ *([0-9]+)\.([0-9]{6})\] [^ ]+ [^ ]+ (restarting|starting) the following units: .*/\1\2/p' | head -n 1
}

was_to_restart() {
    said_by "fleet-switch-$run$site" | sed -nE 's/^(stopping|restarting|starting) the following units: //p' | tr -d ' ' |
        tr ',' '\n' | grep -qxF -- "$1"
}

# Print the services whose definition differs between OLD and NEW, and for a template a pattern of its instances.
changed_services() {
    diff -rq "$old/etc/systemd/system" "$new/etc/systemd/system" 2>/dev/null |
        sed -nE 's#^Files .*/etc/systemd/system/([^/ ]+\.service)(\.d/[^ ]*)? and .*#\1#p
            s#^Only in .*/([^/ ]+\.service)\.d: .*#\1#p' | sed 's/@\.service$/@*.service/' | sort -u
}

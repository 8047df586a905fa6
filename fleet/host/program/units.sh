# --- units, and which of them count --------------------------------------------------------------------

# Tell which units speak against NEW. One that is `bad` will not come back, one that is `unsettled` may yet. Where PID 1 does
# not answer, this ends the (sub)shell: that is no proof.
# sets: unit sub count most
judge_units() {
    failing_units && restart_counts || exit 1
    while read -r unit sub; do
        [ -n "$unit" ] || continue
        if failed_before "$unit"; then answer failing_before "$unit"; continue; fi
        counts_against_new "$unit" || continue
        case $sub in
            auto-restart*) answer unsettled "$unit is waiting to be restarted" ;;
            *) answer bad "$unit has failed" ;;
        esac
    done <<EOF
$trouble
EOF
    # After a boot nobody has counted: what is restarted in the course of one, the boots of OLD have too.
    if [ ! -e restarts ]; then
        boot_has_finished && put restarts "$counts"
        return 0
    fi
    read_line threshold
    most=${text:-2}
    while read -r unit count; do
        [ "${count:-0}" -ge "$most" ] || continue
        count=$((count - $(restarts_before "$unit")))
        if [ "$count" -ge "$most" ] && ! failed_before "$unit" && counts_against_new "$unit"; then
            answer bad "$unit was restarted $count times since activation"
        fi
    done <<EOF
$counts
EOF
}

# Succeed if trouble of unit $1 would be the fault of NEW.
counts_against_new() {
    is_unit_of "$1" "$new" || return
    if is_session_bound "$1" "$new" || is_ignored "$1"; then return 1; fi
    ! is_timer_driven "$1" || unit_differs "$1"
}

failed_before() { has_line failing "$1"; }

# Let $counts be how often systemd has restarted each service by itself, a line for each.
# sets: key value counts unit number
restart_counts() {
    ask_systemd show --property=Id --property=NRestarts '*.service' || return
    counts='' unit='' number=''
    while IFS='=' read -r key value; do
        case $key in
            Id) unit=$value ;;
            NRestarts) number=$value ;;
            '') counts="$counts$unit $number$newline" unit='' number='' ;;
        esac
    done <<EOF
$found

EOF
}

# Print the same of unit $1 when activation ended; of one that was not there, 0.
# sets: unit number
restarts_before() {
    while read -r unit number; do
        if [ "$unit" = "$1" ]; then echo "$number"; return; fi
    done <restarts
    echo 0
}

# Print the units of OLD that are active, and can be expected to be so again; and sshd, whosever it is.
# sets: key value timed unit
active_units() {
    ask_systemd show --all --property=Triggers '*.timer' '*.path' || return      # of few units: each takes PID 1 a millisecond
    timed=' '
    while IFS='=' read -r key value; do [ "$key" != Triggers ] || timed="$timed$value "; done <<EOF
$found
EOF
    list_units --state=active --type=service,socket,mount,target,timer,path || return
    while read -r unit _; do
        case $timed in *" $unit "*) continue ;; esac
        case $unit in ssh.service | sshd.service | ssh.socket | sshd.socket) printf '%s\n' "$unit"; continue ;; esac
        if is_unit_of "$unit" "$old" && ! is_session_bound "$unit" "$old" && ! is_ignored "$unit"; then
            printf '%s\n' "$unit"
        fi
    done <<EOF
$found
EOF
}

# Let $trouble be name and sub-state of each unit that has failed or waits to be restarted, a line for each.
# sets: unit sub trouble
failing_units() {
    list_units --state=failed,auto-restart,auto-restart-queued || return
    trouble=
    while read -r unit _ _ sub _; do [ -z "$unit" ] || trouble="$trouble$unit $sub$newline"; done <<EOF
$found
EOF
}

# Let $found be what systemctl says to these words.
# sets: found
ask_systemd() { found=$(manager "$@") || found=$(retry manager "$@"); }
list_units() { ask_systemd list-units --full --plain --no-legend "$@"; }

template_of() { case $1 in *@*.*) echo "${1%%@*}@.${1##*.}" ;; *) echo "$1" ;; esac; }

# Succeed if unit $1 is part of system $2.
is_unit_of() {
    "${driver}_units" "$2"
    [ ! -e "$units/$1" ] || return 0
    case $1 in
        *@*.*) [ ! -e "$units/${1%%@*}@.${1##*.}" ] || return 0 ;;
    esac
    # Of OLD's or NEW's fstab, or of what else of theirs a generator reads.
    case $driver:$1 in nixos:* | *.mount) [ -e "/run/systemd/generator/$1" ] ;; *) return 1 ;; esac
}

# Succeed if unit $1 of system $2 comes and goes with a connection or a session.
is_session_bound() {
    case $1 in
        user@*.service | user-runtime-dir@*.service) return 0 ;;
        *@*.service) "${driver}_units" "$2" && grep -qE '^\s*Accept\s*=\s*([yYtT1]|on)' "$units/${1%%@*}.socket" 2>/dev/null ;;
        *) return 1 ;;
    esac
}

# Succeed if a timer starts unit $1. Where PID 1 does not answer, this ends the (sub)shell: that is no answer to anything.
# sets: triggers
is_timer_driven() {
    triggers=$(retry manager show --property=TriggeredBy --value -- "$1") || exit 1
    case $triggers in *.timer*) ;; *) return 1 ;; esac
}

# sets: pattern
is_ignored() {
    while read -r pattern; do
        # shellcheck disable=SC2254  # it is a pattern
        case $1 in $pattern) return 0 ;; esac
    done 2>/dev/null <ignore
    return 1
}

# Succeed if the definition of unit $1 differs between OLD and NEW.
# sets: template part before
unit_differs() {
    template=$(template_of "$1")
    "${driver}_units" "$old"
    before=$units
    "${driver}_units" "$new"
    for part in "$1" "$1.d" "$template" "$template.d"; do
        if [ -e "$before/$part" ] || [ -e "$units/$part" ]; then
            diff -rq "$before/$part" "$units/$part" >/dev/null 2>&1 || return 0
        fi
    done
    return 1
}

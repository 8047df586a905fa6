# --- answers -------------------------------------------------------------------------------------------

# Tell what became of run $1.
# sets: folder key text
show() {
    wait_until_closed
    answer format $format
    answer running "$(running_system)"
    for folder in $open $closed $record/open $record/last; do
        enter "$folder" "$1" || continue
        for key in run state goal since new old status blame reason unproven boot_entry boot_doubt rebooted ended; do
            ! read_line $key || answer $key "$text"
        done
        while IFS= read -r text; do answer note "$text"; done 2>/dev/null <notes
        [ "$folder" != $open ] || answer_closing closes_in
        answer_missing secret
        return
    done
    answer state unknown
}

# Answer as $1 in how many seconds the transaction that we are in closes by itself.
# sets: deadline
answer_closing() {
    clock
    read_line deadline
    deadline=${text:-0}
    read_line limit
    [ "${text:-$deadline}" -ge "$deadline" ] || deadline=$text
    answer "$1" $((deadline - now))
}

# Wait until run $1 leaves state $2 or a second has passed, and tell the last of what its switch wrote after cursor $3.
watch() {
    ! enter $open "$1" || wait_for_turn "$2"
    tell_lines "$1" "${3-}"
    show "$1"
}

# Tell the last of what the switch of run $1 wrote after cursor $2.
tell_lines() {
    journalctl --quiet --no-pager --output=cat --show-cursor ${2:+"--after-cursor=$2"} \
        "_SYSTEMD_UNIT=fleet-switch-$1$site.service" 2>/dev/null | tail -n 500 | cut -b -2000 |
        while IFS= read -r line; do
            case $line in '-- cursor: '*) answer cursor "${line#-- cursor: }" ;; *) printf 'line=%s\n' "$line" ;; esac
        done
}

# Watch run $1, which has just begun, from the state that it is in. Others may open transactions from now on.
watch_begun() {
    exec 9>&-
    read_line state
    watch "$1" "$text"
}

# Wait until the state is not $1 any more, for a second at most.
wait_for_turn() {
    ! state_is_not "$1" || return 0
    if [ ! -e ".turn-$1" ] || { flock -s -w 1 6; } 2>/dev/null 6<".turn-$1"; then
        state_is_not "$1" || sleep 0.2  # the keeper is just being started, and has no lock yet
    else
        [ $? -eq 1 ] || sleep 1         # /run is full
    fi
}

state_is_not() { read_line state; [ "$text" != "$1" ]; }

# Let whoever asks be the one who proves run $1 from now on, and answer his number: those with a lower one are displaced.
# sets: number
attach() {
    lock_opening
    if enter $open "$1" && is_of_our_format; then
        read_line prover
        number=$((${text:-1} + 1))
        ! put prover $number || answer prover $number
        [ ! -d $record/open ] || put_durably prover $number
    fi
    exec 9>&-
    show "$1"
}

# Succeed if somebody has attached to the transaction that we are in after the one with number $1, and say so. The one who has
# begun it has number 1; no number is a person.
is_displaced() { [ -n "$1" ] && read_line prover && [ "$1" -lt "$text" ] && answer displaced yes; }

# Renew the deadline of run $1, whose controller is alive and has number $2, and judge the units.
look() {
    if enter $open "$1" && ! is_displaced "${2-}" && ! state_is_not switched; then
        [ -e guarded ] || put_deadline confirm           # that of a switch by hand is for the host itself
        read_systems
        if lacks_secrets; then answer unsettled "a secret is not there yet"; else judge_units; fi
    fi
    show "$1"
}

# Leave word $2 for run $1: confirm, abandon found REASON or abandon silent REASON. With `wait` as $3 wait for a moment, since
# the end may be near, and tell what the switch wrote after cursor $4. $5 is the number of the one who proves.
word() {
    if enter $open "$1" && ! is_displaced "${5-}" && accept_word "$2" "${5-}"; then
        ring
        answer accepted yes
        [ -z "${3-}" ] || { wait_for_end; tell_lines "$1" "${4-}"; }
    else
        answer accepted no
    fi
    show "$1"
}

# Wait until the transaction that we are in has ended, for some seconds at most.
# sets: tries
wait_for_end() {
    tries=4
    until read_line ended || [ $tries -eq 0 ]; do
        read_line state
        wait_for_turn "$text"
        tries=$((tries - 1))
    done
}

accept_word() {
    read_line state
    case $text:$1 in
        switched:confirm) [ -z "$2" ] || was_seen_lately || return ;;
        switch*:abandon\ * | arming:abandon\ *) ;;
        *) return 1 ;;
    esac
    put word "$1"
}

# Succeed if the last look was less than 10 s ago: what was well before that, when its controller fell asleep, proves nothing.
# sets: window
was_seen_lately() {
    clock
    read_line confirm
    window=$text
    read_line deadline                  # each look has moved it
    [ $((now + window - text)) -le 10 ]
}

# Tell what this host is and runs.
# sets: link path bad key unit trouble
facts() {
    answer format $format
    answer machine "$(uname -m)"
    answer nix "$(command -v nix-store)"
    [ ! -w /nix/var/nix/db ] || answer store_writable yes
    find_systems
    answer running "$running"
    answer profile "$profiled"
    link=$(profile_link)
    answer generation "${link%@*}"
    answer link "$link"
    if boots_once; then answer boots_once yes; else answer boots_not_once "$why"; fi
    answer boot_default "$default"
    answer boot_doubt "$doubt"
    [ -n "$default" ] || for path in $unmounted; do answer boot_unmounted "$path"; done
    [ $driver != nixos ] || answer_nixos
    set +f
    for bad in "$record"/quarantine/*; do [ ! -e "$bad" ] || answer quarantined "/nix/store/${bad##*/}"; done
    set -f
    if [ -e /sys/module/nvidia/version ]; then
        answer nvidia "$(get /sys/module/nvidia/version)"
        answer running_nvidia "$(find -L /run/current-system/kernel-modules/lib/modules -name 'nvidia.ko*' \
            -exec readlink -f '{}' ';' 2>/dev/null | head -n 1)"
    fi
    ! command -v zstd >/dev/null || answer has_zstd yes
    answer nix_free "$(free_space /nix/store)"
    answer boot_free "$(free_space /boot)"
    answer_hardware
    failing_units || trouble=
    while read -r unit _; do [ -z "$unit" ] || answer failed_unit "$unit"; done <<EOF
$trouble
EOF
    is_inactive nixos-upgrade.timer || answer upgrade nixos-upgrade.timer
    answer lock_holder "$(switch_lock_holder)"
    answer_roots
    answer_missing $record/secrets
    answer_gate
    find_serial
    answer serial "$serial"
    answer_queue
    answer_open
    enter_last || return 0
    for key in run state who from intent ended new old goal reason blame boot_entry boot_doubt part; do read_line $key; answer "last_$key" "$text"; done
    ! serial_of . || answer last_serial "$text"
}

# Tell what only NixOS has.
# sets: path
answer_nixos() {
    answer booted "$(readlink -f /run/booted-system)"
    answer_parts
    set +f
    for path in "$profile"/specialisation/*; do [ ! -e "$path" ] || answer specialisation "$(readlink -f "$path")"; done
    set -f
    answer inhibitors "$([ ! -s /run/current-system/switch-inhibitors ] || tr -d '\n' </run/current-system/switch-inhibitors)"
    read_line /run/current-system/init-interface-version
    answer init_interface "$text"
    answer_agents
}

# Tell which packages the agents of services.fleet.agents have: AGENT NAME VERSION.
answer_agents() {
    ( cd /run/current-system/etc/fleet/agents 2>/dev/null && grep -RsE '^package ' . ) | head -n 500 | cut -b -400 |
        sed -n 's,^\./\([a-z0-9-]*\):package ,agent=\1 ,p'
}

# Print how many bytes are free at place $1.
# sets: free
free_space() { free=$(df -B1 --output=avail "$1" 2>/dev/null) && echo "${free##*"$newline"}"; }

# Tell what the running and the booted system have of what only a reboot makes live: where their links lead, or what their
# files say.
# sets: when part path found
answer_parts() {
    set --
    for when in running booted; do
        for part in kernel initrd kernel-modules systemd kernel-params; do
            path=/run/$when-system/$part
            [ $when = booted ] || path=/run/current-system/$part
            if [ ! -L "$path" ]; then answer "${when}_$part" "$(get "$path")"; else set -- "$@" "${when}_$part" "$path"; fi
        done
    done
    [ $# -gt 0 ] || return 0
    part=
    for path; do case $path in /*) part="$part $path" ;; esac; done
    # shellcheck disable=SC2086  # a list; there is a line for each, also where nothing is
    found=$(readlink -m $part)
    while read -r path; do
        [ -e "$path" ] || path=
        answer "$1" "$path"
        shift 2
    done <<EOF
$found
EOF
}

# Tell what is rooted, and which runs have pushed before a power cut, some of them where there are very many.
answer_roots() {
    find $roots -maxdepth 1 '(' -name live -o -name previous -o -name staged ')' -printf '%f=%l\n' 2>/dev/null
    find_earlier_marks
    for mark in $earlier; do answer doubtful "${mark##*/}"; done | head -n 200
}

# Tell what a person needs to know of the open transaction, ours or the one in folder $1.
# sets: key
answer_open() {
    enter "${1:-$open}" || return
    for key in run state who from intent since new old goal; do read_line $key; answer "open_$key" "$text"; done
    answer_closing open_closes_in
}

# Tell what a reboot would interrupt.
# sets: own
busy() {
    own=$(sed -n 's,.*/session-\([^/]*\)\.scope.*,\1,p' /proc/self/cgroup)
    loginctl list-sessions --no-legend 2>/dev/null | while read -r session _ user _; do
        what=$(loginctl show-session "$session" --property=TTY --property=Display --value 2>/dev/null | tr -d '\n')
        [ -z "$what" ] || [ "$session" = "$own" ] || answer busy "$user, who is logged in ($what)"
    done
    systemd-inhibit --list --no-legend 2>/dev/null | while read -r line; do
        case $line in *shutdown*\ block | *shutdown*\ block-weak) answer busy "an inhibitor lock ($line)" ;; esac
    done
    gpu_jobs | while read -r job; do answer busy "a job on the GPU ($job)"; done
}

# sets: link number
generations() {
    for number in $(generation_numbers); do
        link=$profile-$number-link
        [ ! -L "$link" ] || answer generation "$number $(stat -c %Y "$link") $(readlink -f "$link")"
    done
    answer current "$(readlink $profile)"
    answer previous "$(readlink $roots/previous)"
    answer running "$(running_system)"
}

# --- answers -------------------------------------------------------------------------------------------

# Tell what became of run $1.
# sets: folder key
show() {
    wait_until_closed
    answer format $format
    answer running "$(running_system)"
    for folder in $open $closed $record/open $record/last; do
        enter "$folder" "$1" || continue
        for key in run state goal since new old status blame reason unproven boot_entry boot_doubt rebooted ended; do
            [ ! -e $key ] || answer $key "$(get $key)"
        done
        get notes | sed 's/^/note=/'
        [ "$folder" != $open ] || answer closes_in $(($(get deadline) - $(now)))
        return
    done
    answer state unknown
}

# Wait until run $1 leaves state $2 or a second has passed, and tell the last of what its switch wrote after cursor $3.
watch() {
    ! enter $open "$1" || wait_for 1 state_is_not "$2"
    journalctl --quiet --no-pager --output=cat --show-cursor ${3:+"--after-cursor=$3"} \
        "_SYSTEMD_UNIT=fleet-switch-$1.service" 2>/dev/null | tail -n 500 | cut -b -2000 |
        while IFS= read -r line; do
            case $line in '-- cursor: '*) answer cursor "${line#-- cursor: }" ;; *) printf 'line=%s\n' "$line" ;; esac
        done
    show "$1"
}

state_is_not() { [ "$(get state)" != "$1" ]; }

# Renew the deadline of run $1, whose controller is alive, and judge the units.
# sets: new old
look() {
    if enter $open "$1" && [ "$(get state)" = switched ]; then
        put deadline $(($(now) + $(get confirm)))
        new=$(get new) old=$(get old)
        judge_units
    fi
    show "$1"
}

# Leave word $2 for run $1: confirm, abandon found REASON or abandon silent REASON.
word() {
    if enter $open "$1" && accept_word "$2"; then answer accepted yes; else answer accepted no; fi
    show "$1"
}

accept_word() {
    case $(get state):$1 in
        switched:confirm | switch*:abandon\ * | arming:abandon\ *) put word "$1" ;;
        *) return 1 ;;
    esac
}

# Tell what this host is and runs.
# sets: link part path bad root mark key
facts() {
    answer format $format
    answer machine "$(uname -m)"
    answer nix "$(nix-store --version 2>/dev/null)"
    answer store_writable "$([ -w /nix/var/nix/db ] && echo yes)"
    answer running "$(running_system)"
    answer profile "$(profile_system)"
    link=$(profile_link)
    answer generation "${link%@*}"
    answer link "$link"
    answer booted "$(readlink -f /run/booted-system)"
    read_boot
    answer boot_default "$default"
    answer boot_doubt "$doubt"
    [ -n "$default" ] || for path in $unmounted; do answer boot_unmounted "$path"; done
    for part in kernel initrd kernel-modules systemd kernel-params; do
        answer "running_$part" "$(target_or_text /run/current-system/$part)"
        answer "booted_$part" "$(target_or_text /run/booted-system/$part)"
    done
    set +f
    for path in "$profile"/specialisation/*; do answer specialisation "$(readlink -f "$path")"; done
    for bad in "$record"/quarantine/*; do [ ! -e "$bad" ] || answer quarantined "/nix/store/${bad##*/}"; done
    set -f
    answer inhibitors "$(tr -d '\n' 2>/dev/null </run/current-system/switch-inhibitors)"
    answer init_interface "$(cat /run/current-system/init-interface-version 2>/dev/null)"
    if [ -e /sys/module/nvidia/version ]; then
        answer nvidia "$(cat /sys/module/nvidia/version)"
        answer running_nvidia "$(find -L /run/current-system/kernel-modules/lib/modules -name 'nvidia.ko*' \
            -exec readlink -f '{}' ';' 2>/dev/null | head -n 1)"
    fi
    if boots_once; then answer boots_once yes; else answer boots_not_once "$why"; fi
    ! command -v zstd >/dev/null || answer has_zstd yes
    answer nix_free "$(df -B1 --output=avail /nix/store | tail -n 1)"
    answer boot_free "$(df -B1 --output=avail /boot 2>/dev/null | tail -n 1)"
    failing_units | while read -r unit _; do answer failed_unit "$unit"; done
    is_inactive nixos-upgrade.timer || answer upgrade nixos-upgrade.timer
    answer lock_holder "$(switch_lock_holder)"
    for root in live previous staged; do answer $root "$(readlink $roots/$root)"; done
    for mark in $(earlier_marks); do answer doubtful "${mark##*/}"; done
    find_serial
    answer serial "$serial"
    answer_open
    enter_last || return 0
    for key in run state new old goal reason blame boot_entry boot_doubt part; do read_line $key; answer "last_$key" "$text"; done
    ! serial_of . || answer last_serial "$text"
}

# Print where link $1 leads, or the text of file $1.
target_or_text() { if [ -L "$1" ]; then readlink -e "$1"; else get "$1"; fi; }

# Tell what a person needs to know of the open transaction.
# sets: key
answer_open() {
    enter $open || return
    for key in run state who from since new old goal; do read_line $key; answer "open_$key" "$text"; done
    answer open_closes_in $(($(get deadline) - $(now)))
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
    with_timeout 20 nvidia-smi --query-compute-apps=pid,process_name --format=csv,noheader 2>/dev/null |
        while read -r job; do answer busy "a job on the GPU ($job)"; done
}

# sets: link number
generations() {
    set +f
    for link in "$profiles"/system-*-link; do
        number=${link#"$profiles"/system-}
        answer generation "${number%-link} $(stat -c %Y "$link") $(readlink -f "$link")"
    done
    answer current "$(readlink $profile)"
    answer previous "$(readlink $roots/previous)"
    answer running "$(running_system)"
}

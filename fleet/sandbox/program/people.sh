
# --- what people call ---

state() { systemctl is-active "$unit" 2>/dev/null || :; }

# Tell of every sandbox that is declared here: name, backend, state, address, the seconds that are left to it, and its versions.
list() {
    [ ! -d "$declared" ] || for file in $(find "$declared/" -mindepth 1 -maxdepth 1 ! -name '*.*' | sort); do
        (
            read_declaration "${file##*/}"
            printf 'sandbox\t%s\t%s\t%s\t%s\t%s\t%s\n' "$name" "$backend" "$(state)" "$(if has_egress; then echo "$address"; fi)" \
                "$(left)" "$(versions)"
        )
    done
    echo end
}

# Print what an agent of that name has: services.fleet.agents.
versions() { sed -n 's/^package //p' "/etc/fleet/agents/$name" 2>/dev/null | paste -s -d , - | sed 's/,/, /g'; }

# Let nobody else be at work on the sandbox until this ends.
alone() {
    mkdir -p /run/fleet-sandbox-proofs
    exec 9>"/run/fleet-sandbox-proofs/.$name"
    flock -w 240 9 || die "somebody else is at work on the sandbox $name"
}

# Print how many seconds are left to a sandbox that runs.
left() {
    [ "$(state)" = active ] || return 0
    began=$(systemctl show -P ActiveEnterTimestampMonotonic "$unit")
    read -r now _ </proc/uptime
    echo $((ttl + began / 1000000 - ${now%.*}))
}

tell_state() { printf 'state\t%s\t%s\n' "$(state)" "$(left)"; }

# A sandbox begins only when it is proven that it holds; its unit proves it once more, before what is to run in it. A microVM is looked
# at when it runs.
up() {
    if [ "$(state)" != active ]; then
        if [ "$backend" = microvm ]; then begin; fi
        proofs=$(proven) || { stop; printf '%s\nproof\tbroken\n' "$proofs"; tell_state; echo end; return; }
        printf '%s\nproof\theld\n' "$proofs"
        if [ "$backend" = systemd ]; then begin; fi
    fi
    tell_state
    echo end
}

begin() { systemctl start "$unit" 2>&1 | sed 's/^/said\t/'; }

# Nothing is left of it then.
stop() {
    systemctl stop "$unit" "fleet-sandbox-$name-setup.service"
    systemctl reset-failed "$unit" 2>/dev/null || :
}

down() {
    stop
    tell_state
    echo end
}

# What was written in it is gone. What is a folder of somebody else's stays.
reset() {
    was=$(state)
    stop
    case $work in /var/lib/fleet-sandboxes/*) rm -rf --one-file-system "$work" ;; esac
    if [ "$backend" = microvm ]; then rm -f "/var/lib/microvms/$name"/*.img; fi
    if [ "$was" = active ]; then up; else tell_state; echo end; fi
}

prove() {
    if proofs=$(proven); then proof=held; else proof=broken; fi
    case $proofs in *'	unseen	'*) [ "$backend" = systemd ] || proof=broken ;; esac
    printf '%s\nproof\t%s\n' "$proofs" "$proof"
    tell_state
    echo end
}

# Print a line for each probe. Succeed if all of them say that the sandbox holds.
#
# The probes from within run as what is to run there does: in a unit with the same settings and the same network.
proven() {
    {
        if [ "$backend" = systemd ]; then
            systemctl stop "fleet-sandbox-$name-prove.service"
            rm -f "/run/fleet-sandbox-proofs/$name"
            systemctl start "fleet-sandbox-$name-prove.service" 2>/dev/null || :
            within
        fi
        outside
    } >"/run/fleet-sandbox.$$" 2>&1
    cat "/run/fleet-sandbox.$$"
    if [ "$backend" = systemd ]; then
        systemctl stop "fleet-sandbox-$name-prove.service"
        systemctl reset-failed "fleet-sandbox-$name-prove.service" 2>/dev/null || :
    fi
    bad=$(awk -F '\t' -v strict="$limits" '$1 != "probe" || $3 == "broken" || $3 == "unknown" || ($3 == "weak" && strict == "yes")' \
        "/run/fleet-sandbox.$$")
    rm -f "/run/fleet-sandbox.$$"
    [ -z "$bad" ]
}

within() {
    if [ ! -s "/run/fleet-sandbox-proofs/$name" ]; then
        told start broken "nothing starts there: journalctl -u fleet-sandbox-$name-prove -u fleet-sandbox-$name-setup"
    elif [ "$(tail -n 1 "/run/fleet-sandbox-proofs/$name")" != end ]; then
        grep '^probe' "/run/fleet-sandbox-proofs/$name" || :
        told start unknown 'the probes did not come to their end'
    else
        grep '^probe' "/run/fleet-sandbox-proofs/$name"
    fi
}

told() { printf 'probe\t%s\t%s\t%s\n' "$1" "$2" "$3"; }

outside() {
    if [ "$(rules 2>/dev/null)" = "$(cat "$run/rules" 2>/dev/null)" ] && [ -s "$run/rules" ]; then
        told rules held 'the rules of its network stand as they were made'
    else
        told rules broken 'the rules of its network are not there, or somebody has changed them'
    fi
    limits
    [ "$(state)" != active ] || running
}

# Whether the kernel limits memory and processes: where it cannot, systemd says nothing.
limits() {
    group=/sys/fs/cgroup$(systemctl show -P ControlGroup "$unit")
    if [ "$(state)" = active ] && [ "$backend" = systemd ]; then
        case $(cat "$group/memory.max" 2>/dev/null)/$(cat "$group/pids.max" 2>/dev/null) in
            [0-9]*/[0-9]*) told limits held 'memory and processes are limited' ;;
            *) told limits weak 'nothing limits its memory and its processes' ;;
        esac
    else
        case " $(cat /sys/fs/cgroup/cgroup.controllers 2>/dev/null) " in
            *' memory '*' pids '*) told limits held 'memory and processes can be limited' ;;
            *) told limits weak 'the kernel of this host limits neither memory nor processes of units (no cgroup v2)' ;;
        esac
    fi
}

# What runs there now, as the kernel has it.
running() {
    if systemctl is-active --quiet "fleet-sandbox-$name-end.timer"; then
        told time held "it ends in $(left) s"
    else
        told time broken 'nothing ends it'
    fi
    pid=$(systemctl show -P MainPID "$unit")
    case $(sed -n 's/^Uid:\t\([0-9]*\).*/\1/p' "/proc/$pid/status" 2>/dev/null) in
        '' | 0) told running broken 'it runs as root, or what runs cannot be found' ;;
        *) told running held 'what runs there is no root' ;;
    esac
    [ "$backend" = systemd ] || { told within unseen 'nobody can look into a microVM from here'; return 0; }
    same=''
    for kind in net mnt ipc; do
        case $(stat -L -c %i "/proc/$pid/ns/$kind" 2>/dev/null) in '' | "$(stat -L -c %i "/proc/1/ns/$kind")") same="$same $kind" ;; esac
    done
    if [ -z "$same" ]; then
        told running-apart held 'what runs there has namespaces of its own'
    elif may_look; then
        told running-apart broken "what runs there shares namespaces with the host:$same"
    else
        told running-apart unseen 'root may not look at processes here: it lacks CAP_SYS_PTRACE'
    fi
    held=$(awk '/^(NoNewPrivs:\t1|Seccomp:\t2|CapEff:\t0+|CapBnd:\t0+|CapAmb:\t0+)$/ { n++ } END { print n + 0 }' "/proc/$pid/status")
    if [ "$held" = 5 ]; then
        told running-rights held 'what runs there can gain nothing: no capabilities, seccomp, no_new_privs'
    else
        told running-rights broken 'what runs there has capabilities, or could gain some'
    fi
}

# Whether root has CAP_SYS_PTRACE, bit 19, as it has outside of containers.
may_look() { [ $((0x$(sed -n 's/^CapEff:\t0*\([0-9a-f]\)/\1/p' /proc/self/status) >> 19 & 1)) = 1 ]; }

# Run a command in the sandbox, or a shell, as what runs there does. It ends with the sandbox.
enter() {
    [ "$(state)" = active ] || die "the sandbox $name is not up"
    if [ "$backend" = microvm ]; then
        exec ssh -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR "agent@$address" "$@"
    fi
    [ $# -gt 0 ] || set -- sh
    # Systemd may lose the status of what ends quickly in a PID namespace, so it comes by a file.
    status=$run/ended.$$
    : >"$status"
    set -- -- "$shell" sh -c '"$@" 3>&-; echo $? >&3' sh "$@"
    # The bus has another name than units for a value that is not yes or no.
    while read -r property; do set -- "--property=$property" "$@"; done <<END
$({ printf %s "$properties" | sed 's/^PrivateTmp=disconnected$/PrivateTmpEx=disconnected/'; [ ! -r "$declared/$name.store" ] || sed 's/^/BindReadOnlyPaths=/' "$declared/$name.store"; } | sed '1!G; h; $!d')
END
    if [ -t 0 ]; then set -- --pty "$@"; else set -- --pipe "$@"; fi
    systemd-run --quiet --collect --wait --unit="fleet-sandbox-$name-shell-$$" \
        --property="BindsTo=$unit" --property="After=$unit" --property="OpenFile=$status::append" "$@" || :
    ended=$(cat "$status" 2>/dev/null || :)
    rm -f "$status"
    exit "${ended:-1}"
}

main "$@"
exit

# --- system-manager -------------------------------------------------------------------------------------
#
# What it knows of its programs was read in numtide/system-manager of July 2026, crates/system-manager-engine: `activate` sets no
# profile, and exits with 0 where it has failed; `register-profile` sets the profile, and a root of its own. What was activated
# is in /etc, so a boot starts that whatever the profile names.

system_manager_state=/var/lib/system-manager/state/system-manager-state.json    # each activation writes it anew

# Somebody may have activated another system by hand since: then it is the one that was registered.
# sets: lasting needed running
system_manager_facts() {
    lasting=yes needed='bin/activate bin/register-profile etcFiles/etcFiles.json'
    place_profile /nix/var/nix/profiles/system-manager-profiles/system-manager
    find_noted
    # shellcheck disable=SC3013  # POSIX since 2024
    if [ -e "$record/running" ] && [ $system_manager_state -nt "$record/running" ]; then running=$profiled; fi
}

# Its units are in the environment that etcFiles.json names.
# sets: units text units_of
system_manager_units() {
    [ "${units_of-}" != "$1" ] || return 0
    units_of=$1
    text=$(sed -n 's/.*"staticEnv":"\([^"]*\)".*/\1/p' "$1/etcFiles/etcFiles.json" 2>/dev/null)
    units=${text:-$1}/systemd/system
}

# sets: status
system_manager_activate() {
    [ "$1" != $nothing ] || { bounded "$new/bin/deactivate"; return; }
    { bounded "$1/bin/activate" 2>&1; echo $? >.exit; } | sed -u '/ERROR.*Error during /w .errors' >&2
    read_line .exit
    status=${text:-1}
    [ ! -s .errors ] || [ "$status" -ne 0 ] || status=1
    rm -f .errors .exit
    return "$status"
}

system_manager_go_back() {
    bounded "$new/bin/deactivate" || [ "$1" != $nothing ] || return
    [ "$1" = $nothing ] || system_manager_activate "$1"
}

# sets: root
system_manager_commit() {
    root=/nix/var/nix/gcroots/system-manager-current
    if [ "$1" = "$new" ]; then
        with_timeout 60 "$1/bin/register-profile"
    elif [ "$1" = $nothing ]; then
        rm -f $root
    elif [ -L $root ]; then
        ln -sfn "$1" $root
    fi
}

# A boot starts what is in /etc, which is what runs; the profile names it too where all is well.
# sets: default
system_manager_verify() {
    system_manager_facts
    default=$profiled
}

# --- drivers: what activates systems here ---------------------------------------------------------------
#
# NixOS has switch-to-configuration. What a host, or a profile on it, has in its place is a driver: a file NAME.sh with these
# functions, and nothing of the rest knows more of it. docs/drivers.md says what each of them can hold.
#
#   NAME_facts              what there is: $running is the system that is active and $profiled what the profile names, each
#                           $nothing where there is none. $profile is that profile, $needed what each system has, $lasting is
#                           set where a reboot leaves active what was, $as runs commands as the owner of the profile
#   NAME_units SYSTEM       part of the facts: $units is the folder with its units
#   NAME_activate SYSTEM    make it the active one, with the profile as it was. That of $nothing takes back what NEW has done
#   NAME_go_back SYSTEM     the same by hand, where that has failed. Where both fail, nothing has shown what is active
#   NAME_commit SYSTEM      let a boot activate it, which the profile names by now
#   NAME_verify             $default is what a boot activates; or it is empty, and $doubt says why nobody knows
#
# NAME_activate and NAME_go_back run their programs by `bounded`; NAME_activate has the journal's unit that this writes to as $2.
#
# A profile beside the host's own system, that of a user for one, has folders of its own for all that a transaction has, so it
# has serials, a history and a queue of its own. But one transaction is open on a host at a time.

# What stands in for the system of a host or a profile that has none yet.
nothing=/nix/store/00000000000000000000000000000000-nothing

# Let all that follows be about profile $2 and driver $1. Where the profile is `-` it is the host's own system.
# sets: called site
choose_driver() {
    case $1 in
        generic | home-manager | nix-darwin | system-manager) ;;
        *) refuse usage "this host program has no driver '$1'" ;;
    esac
    place driver "$(echo "$1" | tr - _)"
    called="for $1 $2"
    if [ "$2" != - ]; then
        is_name "$2" || refuse usage "'$2' is no name of a profile"
        site=-$2
        place waker "fleet-wake$site.service"
        place open "/run/fleet/profile$site/open"
        place closed "/run/fleet/profile$site/last"
        place draft "/run/fleet/profile$site/.next"
        place given_up "/run/fleet/profile$site/.given-up"
        place queue "/run/fleet/profile$site/queue"
        place record "$record/profile$site"
        place roots "$roots/profile$site"
    fi
    "${driver}_facts"
}

# Let variable $1 of main.sh be $2, which has no space in it: so none of those who use it has to care.
# sets: eval
place() { eval "$1=\$2"; }
place_profile() {
    place profile "$1"
    place profiles "${1%/*}"
}

# Let $running be the system that runs, and $profiled the one that the profile names.
find_systems() { "${driver}_facts"; }
# Print one of both.
running_system() {
    [ $driver != nixos ] || { readlink -f /run/current-system; return; }
    "${driver}_facts"
    echo "$running"
}
profile_system() {
    [ $driver != nixos ] || { readlink -f $profile; return; }
    "${driver}_facts"
    echo "$profiled"
}

# Let $running be what was activated last, as far as we know; and $profiled what the profile names.
# sets: running profiled
find_noted() {
    profiled=$(readlink -e "$profile") || profiled=$nothing
    read_line "$record/running"
    running=${text:-$profiled}
    is_store_path "$running" || running=$nothing
}
# Keep for `find_noted` that system $1 is active from now on, though all of it may not be yet.
note_running() { keep_on_record running "$1"; }

# Let $folder be that of the transaction which is open on this host, of whichever profile; fail where none is.
# sets: folder
find_open() {
    set +f
    for folder in $open $all_open; do [ ! -d "$folder" ] || break; done
    set -f
    [ -d "$folder" ]
}

# Print the folder of OLD's commands, and a colon. What a user has activated may have anything there.
system_bin() { [ $driver != nixos ] || printf '%s/bin:' "$(readlink -f "$old/sw")"; }

# Run an activation: with the time that it may take, where its keeper does not look after that.
bounded() ( cd / && umask 022 && { [ -z "$seconds" ] || set -- timeout -k 5 "$seconds" "$@"; } && exec "$@" )

# Ask the systemd that runs the units of the profile: that of its user, who may have none. Then there are no units.
manager() {
    if [ $driver = home_manager ]; then
        # shellcheck disable=SC2086  # words
        [ ! -S "/run/user/$owner_id/systemd/private" ] || $as systemctl --user "$@"
    else
        systemctl "$@"
    fi
}
# The same, for $1 seconds at most.
# sets: within
manager_within() {
    within=$1
    shift
    # shellcheck disable=SC2086  # words
    if [ $driver != home_manager ]; then with_timeout "$within" systemctl "$@"; else with_timeout "$within" $as systemctl --user "$@"; fi
}

# Run nix-env on the profile, as its owner.
nix_profile() {
    # shellcheck disable=SC2086  # words
    with_timeout 60 $as nix-env --profile "$profile" "$@"
}
# Let the profile name system $1.
set_profile() {
    # shellcheck disable=SC2086  # words
    if [ "$1" = $nothing ]; then $as rm -f "$profile"; else $as mkdir -p "${profile%/*}" && nix_profile --set "$1"; fi
}
delete_generation() { nix_profile --delete-generations "$1"; }

# --- nix-darwin -----------------------------------------------------------------------------------------
#
# It has not been run: docs/not-run.md. What it knows was read in nix-darwin of June 2026, modules/system and
# modules/services/activate-system: `activate` takes a profile that names another system, and moves /run/current-system when
# all else went well; a boot points that to what the profile names, and runs a part of `activate`. So what launchd starts
# outlives a reboot, and the rest of the way back is a whole `activate`.

# sets: lasting needed running profiled
nix_darwin_facts() {
    lasting=yes needed='activate systemConfig'
    running=$(readlink -e /run/current-system) || running=$nothing
    profiled=$(readlink -e $profile) || profiled=$nothing
}

# sets: units
nix_darwin_units() { units=$1/Library/LaunchDaemons; }

# There is nothing that takes back the first system of all: darwin-uninstaller asks a person.
nix_darwin_activate() { [ "$1" != $nothing ] && bounded "$1/activate"; }
nix_darwin_go_back() { nix_darwin_activate "$1"; }

nix_darwin_commit() { :; }              # launchd activates what the profile names

# sets: default
nix_darwin_verify() {
    nix_darwin_facts
    default=$profiled
}

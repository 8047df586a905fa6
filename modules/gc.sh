#!/bin/sh
# Collects garbage, and keeps every system that a rollback may need: what runs, what was booted, what fleet keeps a
# root for (what was last proven, what ran before it, what is pushed or under way), and the newest generations.
#
#   KEEP          how many of the newest generations
#   START_BELOW   only if less than this many GiB are free; empty: always
#   DRY_RUN       if not empty: tells what would be done
set -eu
profiles=/nix/var/nix/profiles
profile=$profiles/system
roots=/nix/var/nix/gcroots/fleet
due=${STATE_DIRECTORY:-/var/lib/fleet-gc}/boot-loader
dry=${DRY_RUN:-}

leave_if_deploying() {
    for open in /run/fleet/open /nix/var/fleet/open; do
        [ ! -d "$open" ] || { echo "run $(cat "$open/run") is under way: nothing is collected now"; exit 0; }
    done
}

leave_if_roomy() {
    [ -n "${START_BELOW:-}" ] || return 0
    free=$(($(df -B1 --output=avail /nix/store | tail -n 1) / 1073741824))
    [ "$free" -lt "$START_BELOW" ] || { echo "$free GiB are free, which is enough"; exit 0; }
}

needed() {                              # the systems that must stay, each with the reason
    for link in /run/current-system /run/booted-system "$profile" "$roots"/*; do
        [ ! -e "$link" ] || echo "$(readlink -f "$link") $link"
    done
}

numbers() {                             # of all generations, the newest first
    for link in "$profiles"/system-*-link; do
        number=${link#"$profiles"/system-}
        number=${number%-link}
        case $number in *[!0-9]*) ;; *) echo "$number" ;; esac
    done | sort -rn
}

reason() {                              # why generation $1, the $2th newest, stays; nothing if it goes
    [ "$2" -gt "$KEEP" ] || { echo "one of the newest $KEEP"; return; }
    target=$(readlink -f "$profiles/system-$1-link")
    echo "$needed" | while read -r path link; do
        if [ "$path" = "$target" ]; then echo "$link"; break; fi
    done
}

superfluous() {                         # the generations that nobody needs; what stays is told on stderr
    place=0
    for number in $(numbers); do
        place=$((place + 1))
        why=$(reason "$number" "$place")
        if [ -n "$why" ]; then echo "keeps generation $number: $why" >&2; else echo "$number"; fi
    done
}

leave_if_deploying
leave_if_roomy
needed=$(needed)
old=$(superfluous)
if [ -n "$dry" ]; then
    # shellcheck disable=SC2086  # a list
    echo "would delete generations:" ${old:-none}
    nix-store --gc --print-dead 2>/dev/null | wc -l | xargs echo "dead paths already:"
    exit 0
fi
if [ -n "$old" ]; then
    mkdir -p "${due%/*}"
    : >"$due"
    # shellcheck disable=SC2086  # a list
    nix-env --profile "$profile" --delete-generations $old
fi
# The menu still names what was deleted. It is written anew before anything is really gone, if need be by the next run. Checks
# before a switch have no say in that: nothing is switched.
if [ -e "$due" ]; then
    NIXOS_NO_CHECK=1 "$profile/bin/switch-to-configuration" boot
    rm "$due"
fi
leave_if_deploying
nix-store --gc

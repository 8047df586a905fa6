#!/bin/sh
# What fleet runs on a host: one switch as a transaction that the host owns.
#
#   switching ─ switched ─ committing ─ committed      (goal test: switched ─ tested)
#       └───────────┴────────────┴── reverting ─ reverted | stuck       any act ─ superseded
#   (goal boot: arming ─ rebooting ─ switched)
#
# A transaction is a directory, /run/fleet/open. It is renamed into place complete, which fails while another is open.
# From then on one service, its keeper, alone changes the state. Everybody else leaves a word (confirm, abandon) or a later
# deadline. Each state is one function that acts and names the next. A keeper that died is
# started again, by systemd or by the next contact, and goes on from the state it finds.
#
# A controller calls, with the number of its format first: root, queue, secrets, begin, watch, attach, look, word, show, unroot for
# its run, in this order, and acquit after its end; facts, history, verify, busy, generations, stage and withdraw at any time; garbage,
# prune and collect while nothing is open. Systemd calls, without a number: keep (the keeper), activate (the switch), wake (after
# a reboot) and gc (where services.fleet.gc is on). A switch that somebody else has begun calls guard, where services.fleet.guard
# is on. Where services.fleet.gate is on, a login calls gate, and that calls the rest. `for DRIVER PROFILE` comes before all of
# that where another driver than NixOS's activates what this is about, or it is a profile beside the host's own system (`-`).
# Answers are lines key=value; a key may repeat. Refusals are answers too (refused=KIND); a non-zero exit is a bug or a
# broken host.
#
# Read from here to "a boot on trial", and a live switch is complete. What comes after that answers the questions it asks:
# which units count, what boots next. In this order:
#
#   small words · drivers · the lock of switch-to-configuration · opening a transaction, whose turn that is, the order that it reads, and
#   whether that still holds · serials and history · taking back a plan · what a power cut has damaged · what every contact
#   does first · other versions of this program · the keeper going forward, what people should know of that, and its commit ·
#   who is to blame · going back, and what a person needs to log in · the end, and what outlives a reboot · a boot on trial ·
#   what boots next, and each boot loader · a switch by somebody else · secrets, and what is asked
#   about them · answers · units and which of them count · hardware · garbage · the gate · each driver · macOS
#
# NEW is the system to switch to ($new), OLD the one to go back to ($old). A function's variables are everybody's, for sh
# has no others: `# sets:` above it names those that have another value afterwards. `why` says why something cannot be,
# and `next` is the state that comes after this one.
#
# Needs sh, coreutils, diffutils, findutils, grep, util-linux, systemd and nix: what every NixOS has.
set -fu
umask 077                               # what we write is root's alone; `openly` is for what others read
PATH=$PATH:/run/current-system/sw/bin:/nix/var/nix/profiles/default/bin:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin   # sudo and units may give less

format=2                                # of what a transaction has on record, and of a controller's calls
open=/run/fleet/open                    # the open transaction: on a tmpfs, so never read-only, and gone after a reboot
all_open='/run/fleet/open /run/fleet/profile-*/open'     # where the host and each profile has that
closed=/run/fleet/last                  # the one that ended last
draft=/run/fleet/.next                  # the next one, while it is written
given_up=/run/fleet/.given-up           # runs that will not begin any more
queue=/run/fleet/queue                  # runs that wait for their turn
record=/nix/var/fleet                   # what must outlive a reboot
damaged=$record/damaged                 # store paths that a power cut has damaged
unsynced=$record/unsynced               # runs whose push may be in the page cache only, and the boot that they pushed in
roots=/nix/var/nix/gcroots/fleet
profiles=/nix/var/nix/profiles
profile=$profiles/system
driver=nixos                            # what activates systems here: it has functions by this name
site=                                   # `-NAME` where this is about a profile beside the host's own system
called=                                 # the words that say both, as callers say them first
lasting=                                # not empty where a reboot leaves active what was
needed='nixos-version bin/switch-to-configuration'      # files that every system has
as=                                     # what runs commands as the owner of the profile
seconds=                                # the time that an activation may take, where nobody else keeps it
program=$0
[ ! -L "$0" ] || program=$(readlink -f "$0")
fallback=                               # the system to go back to, where that is not the one that runs
newline='
'

# sets: command
main() {
    if [ "${1-}" = for ]; then
        choose_driver "${2-}" "${3-}"
        shift 3
    fi
    is_root || refuse root "this needs root, and the login is $(id -un)"
    case ${1-}:${2-} in guard:* | wake:* | *:facts | *:begin | *:root) close_folders ;; esac
    case ${1-} in guard | keep | activate | wake | gc | gate) "$@"; return ;; esac
    require_format "${1-}"
    shift
    command=${1-}
    require_names "$@"
    case $command in
        root | unroot | stage | verify | acquit) "$@" ;;
        secrets) secrets "${2-}" "$3" "${4-}" ;;
        begin) begin; [ "${2-}" != watch ] || watch_begun "$begun" ;;
        watch | look | word | attach) recover "$@"; "$@" ;;
        show | facts | history | busy | generations | queue | withdraw | garbage | prune | collect) recover; "$@" ;;
        *) refuse usage "no command $command" ;;
    esac
}

# Refuse a call that names something else than a run, or than store paths.
require_names() {
    case $1 in
        root | unroot | stage | queue | watch | attach | look | word | show | withdraw) is_word "${2-}" || refuse usage "'${2-}' is no run" ;;
    esac
    case $1 in
        root) is_store_path "${3-}" && is_store_path "${4-}" ;;
        stage) is_store_path "${3-}" ;;
        garbage | prune | collect) case ${2:-none}${3-} in *[!0-9,]*) false ;; esac ;;
        secrets) { is_word "${3-}" && is_count "${4:-1}"; } || refuse usage "'${3-}' is no run, or '${4-}' no number" ;;
    esac || refuse usage "'${3-}' or '${4-}' is no store path"
    [ "$1" != withdraw ] || { is_serial "${3-}" && is_word "${6-}"; } || refuse usage "'${3-}' is no serial, or '${6-}' no plan"
}

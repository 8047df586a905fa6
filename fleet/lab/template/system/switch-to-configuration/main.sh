#!/bin/sh
# A lab closure's switch-to-configuration: the order, the words and the exit codes of the real one.
#
#   1 usage, not root, a refused check, the boot loader · 2 activation failed · 4 a unit failed
#   11 another switch has the lock · 100 the init interface differs
#
# /bin/sh of the host runs it, with a PATH of its own: a transient unit's PATH has no tools.
#
# Lists of units are words of one string: unit names have no blanks and no globs.
# shellcheck disable=SC2046,SC2086,SC2116
PATH=/usr/sbin:/usr/bin:/sbin:/bin
export PATH
umask 0022
toplevel=@toplevel@
current=/run/current-system
profiles=/nix/var/nix/profiles
boot=/boot/loader
grub=/boot/grub
start_list=/run/nixos/start-list
action=${1-}
status=0

say() { echo "$*" >&2; }
journal() { logger -t nixos -- "$*" 2>/dev/null || :; }
die() {
    say "$1"
    exit "${2-1}"
}

#!/bin/sh
# What comes over a slow link becomes what `nix-store --serve --write` reads, whose answers go back as they are.
#
# stdin is a sequence of orders, each a line WORD COUNT; with three of them COUNT bytes follow, a zstd frame:
#   ask N     what it holds goes to this host's own store, which answers with NARs, one after another
#   skip N    the next N bytes of its answers are not needed
#   take N    the next N bytes of its answers are added to the base
#   drop N    the first N bytes of the base are not needed any more
#   zstd N    what it holds goes on to the store that is written to
#   delta N   the same, where the frame was made against the base as it is now
#
# The base is at most 6 MiB, in memory (/run is a tmpfs, and so is folder $1, if one is named), in files that have no name any
# more when the first order is read: whatever happens then, nothing is left behind. What failed is on stderr, after
# "fleet-delta: "; where this host is
# not fit for it, nothing was read and the exit status is 69.
# Needs sh, coreutils, findutils, zstd 1.4.5 and nix.
set -fu
PATH=$PATH:/run/current-system/sw/bin:/usr/bin:/bin    # sudo may give less
place=${1:-/run}
base=/proc/self/fd/5
rest=/proc/self/fd/6

fail() {
    echo "fleet-delta: $1" >&2
    exit "${2:-1}"
}

tidy_up() { rm -rf "$folder"; }

answered() {                            # N bytes; where a NAR is shorter than it should be, no more would ever come
    timeout $((20 + $1 / 1000000)) head -c "$1" <&4
}

# Bash calculates with whatever a variable names, and runs the commands in it: behind a gate there are no others than its own.
is_count() { case $1 in '' | *[!0-9]* | 0?* | ?????????????*) return 1 ;; esac; }

has_room() { [ $(($(wc -c <$base) + $1)) -le 16777216 ]; }

obey() {                                # one order after another, until there are no more
    while read -r word count; do
        is_count "$count" || fail "cannot $word so much"
        case $word in
            ask) head -c "$count" | zstd -dcq >&3 ;;
            skip) answered "$count" >/dev/null ;;
            take) has_room "$count" && answered "$count" >>$base ;;
            drop) tail -c "+$((count + 1))" $base >$rest && cat $rest >$base ;;
            zstd) head -c "$count" | zstd -dcq ;;
            delta) head -c "$count" | zstd -dcq --patch-from=$base ;;
            *) false ;;
        esac || fail "cannot $word"
    done
}

command -v zstd >/dev/null || fail 'there is no zstd' 69
find "$place" -maxdepth 1 -name 'fleet-delta.*' -mmin +1 -exec rm -rf {} +    # of those who died before they had tidied up
folder=$(mktemp -d "$place/fleet-delta.XXXXXX") || fail "cannot write to $place" 69
trap tidy_up EXIT
trap 'exit 1' HUP INT TERM
mkfifo "$folder/ask" "$folder/answer" "$folder/result" || fail "cannot write to $place" 69
nix-store --serve <"$folder/ask" >"$folder/answer" 2>/dev/null &
exec 3>"$folder/ask" 4<"$folder/answer" 5>"$folder/base" 6>"$folder/rest" 7<&0
obey <&7 >"$folder/result" &
orders=$!
exec 0<"$folder/result"
tidy_up
exec 3>&- 4<&- 5>&- 6>&- 7<&-
nix-store --serve --write
status=$?
kill $orders 2>/dev/null                # it may wait for an order, and has its hands on the connection as long as it does
exit $status

# Compares store paths of the running system with what Nix has recorded of them, as many as $1 seconds allow, and tells which
# differ. It reads only: `nix-store --verify` would write to Nix's database, `--verify-path` does not.
#
# Nix gives everything in the store the time 1. Paths in which something has another time come first, then any others in an
# order that is new each time. Of each further word, a store path, it tells what that refers to.
set -fu
PATH=$PATH:/run/current-system/sw/bin:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin
export LC_ALL=C
newline='
'
read -r end _ </proc/uptime
end=$((${end%.*} + $1))
seconds=$1
shift

# Let $left be the seconds that there are.
left() { read -r now _ </proc/uptime; left=$((end - ${now%.*})); [ $left -gt 0 ]; }

# Tell that path $2 is $1, since when that is, and whose the newest file there is.
tell() { printf '%s\t%s\t%s\n' "$1" "$2" "$(timeout 5 find "$2" -printf '%C@\t%U\n' 2>/dev/null | sort -n | tail -n 1)"; }

for path; do
    printf 'refers\t%s\t\n' "$path"
    timeout 5 nix-store --query --references "$path" 2>/dev/null | head -n 200 | sed "s,^,refers\t$path\t,"
done

paths=$(timeout 20 nix-store --query --requisites "$(readlink -f /run/current-system)" 2>/dev/null) || exit 0
all=$(printf '%s\n' "$paths" | wc -l)
there=
for path in $paths; do
    if [ -e "$path" ] || [ -L "$path" ]; then there=$there$path$newline; else tell gone "$path"; fi
done
odd=$(printf %s "$there" | timeout $((seconds / 2 + 1)) xargs -d "$newline" sh -c 'find "$@" -newermt @1 -print 2>/dev/null' sh |
    cut -d / -f 1-4 | sort -u | head -n 1000)
# shellcheck disable=SC2046,SC2086  # names of store paths are words
set -- $odd $(printf %s "$there" | grep -vxF -e "${odd:-none}" | shuf)
looked=$((all - $#))
while [ $# -gt 0 ] && left; do
    some=
    count=0
    while [ $# -gt 0 ] && [ $count -lt 16 ]; do
        some="$some $1"
        count=$((count + 1))
        shift
    done
    # shellcheck disable=SC2086
    said=$(timeout -k 2 $left nix-store --verify-path $some 2>&1)
    [ $? -lt 124 ] || break
    looked=$((looked + count))
    for path in $(printf '%s\n' "$said" | sed -nE "s/.*path '(\/nix\/store\/[^']+)' was modified.*/\1/p"); do tell wrong "$path"; done
done
printf 'looked\t%s\t%s\n' "$looked" "$all"

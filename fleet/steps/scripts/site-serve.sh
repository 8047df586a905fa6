# One connection to a host that gives store paths to another host of its site. The other one first says a token. What it may have
# by that, and nothing else, is in the file of that name: paths, in the order in which their NARs are sent.
set -eu
token=$(timeout 10 head -c 64) || exit 0
case $token in *[!0-9a-f]* | '') exit 0 ;; esac
[ ${#token} -eq 64 ] && [ -f "/run/fleet-site/$token" ] || exit 0
exec <"/run/fleet-site/$token"
while read -r path; do nix-store --dump "$path"; done

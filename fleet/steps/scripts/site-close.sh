# Takes the token $1 back. Where no other is left, the listener ends too.
set -eu
rm -f "/run/fleet-site/$1"
for left in /run/fleet-site/*; do
    case ${left##*/} in serve | '*') ;; *) exit 0 ;; esac
done
systemctl stop fleet-site.socket 2>/dev/null || :
rm -rf /run/fleet-site /run/systemd/system/fleet-site.socket /run/systemd/system/fleet-site@.service
systemctl daemon-reload

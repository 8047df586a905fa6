# Takes the token $1 back. Where no other is left, the listener ends too.
set -eu
systemctl stop "fleet-site-$1.timer" 2>/dev/null || :
[ -d /run/fleet-site ] || exit 0
rm -f "/run/fleet-site/$1"
for left in /run/fleet-site/*; do
    case ${left##*/} in serve | '*') ;; *) exit 0 ;; esac
done
systemctl stop fleet-site.socket 2>/dev/null || :
rm -rf /run/fleet-site /run/systemd/system/fleet-site.socket /run/systemd/system/fleet-site@.service
systemctl daemon-reload

# Gives the paths on stdin, by the token $1, to whoever says that on port $2. $3 is what site-serve.sh is, and $4 what site-close.sh is,
# which takes the token back in $5 seconds if nobody does before. The listener is the same for all tokens.
set -eu
umask 022
mkdir -p /run/fleet-site
chmod 711 /run/fleet-site
cat >"/run/fleet-site/.$1"
mv "/run/fleet-site/.$1" "/run/fleet-site/$1"
systemd-run --quiet --collect --unit="fleet-site-$1" --on-active="$5" /bin/sh -c "$4" sh "$1"
if systemctl --quiet is-active fleet-site.socket; then exit 0; fi
printf '%s\n' "$3" >/run/fleet-site/serve
printf '%s\n' '[Unit]' 'Description=Store paths for other hosts of this site, during a deployment' \
    '[Socket]' "ListenStream=$2" Accept=yes MaxConnections=32 >/run/systemd/system/fleet-site.socket
printf '%s\n' '[Unit]' 'Description=Store paths for another host of this site' CollectMode=inactive-or-failed \
    '[Service]' 'ExecStart=/bin/sh /run/fleet-site/serve' "Environment=PATH=$PATH" \
    StandardInput=socket StandardOutput=socket StandardError=journal RuntimeMaxSec=1d \
    User=nobody ProtectHome=yes ProtectSystem=strict PrivateDevices=yes NoNewPrivileges=yes \
    CapabilityBoundingSet= RestrictAddressFamilies=AF_UNIX >/run/systemd/system/fleet-site@.service
systemctl daemon-reload
systemctl start fleet-site.socket

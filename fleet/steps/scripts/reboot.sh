# Reboots the host unless it has changed since it was looked at: then it was booted as $1 says, NixOS system $2 ran, if it
# is one, and no transaction was open. From here on nobody opens one: this holds the lock for that as long as the host is up.
umask 077
mkdir -p /run/fleet
exec 9>/run/fleet/.opening
flock -w 30 9 || { echo "changed=a transaction is being opened"; exit 0; }
set -- "$1" "$2" "$(cat /proc/sys/kernel/random/boot_id) $(cut -d " " -f 22 /proc/1/stat)" "$(readlink -f /run/current-system)"
[ "$1" = "$3" ] || { echo "changed=it has booted again meanwhile"; exit 0; }
[ -z "$2" ] || [ "$2" = "$4" ] || { echo "changed=$4 runs now"; exit 0; }
for open in /run/fleet/open /run/fleet/profile-*/open /nix/var/fleet/open /nix/var/fleet/profile-*/open; do
    [ ! -e "$open" ] || { echo "changed=a transaction is open"; exit 0; }
done
sleep 600 >/dev/null 2>&1 &
sync
systemctl reboot 9>&- || { status=$?; kill "$!"; exit "$status"; }

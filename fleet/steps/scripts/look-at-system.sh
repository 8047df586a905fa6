# Prints what system $1 says of itself, key=value, and which of the files after it are not there.
[ -e "$1" ] || { echo "absent=$1"; exit; }
cd -- "$1" || exit 1
shift
[ $# -gt 0 ] || set -- nixos-version bin/switch-to-configuration     # a gate gives no more than the system
for file; do [ -e "$file" ] || echo "lacks=$file"; done
echo "platform=$(cat system 2>/dev/null)"
echo "init_interface=$(cat init-interface-version 2>/dev/null)"
find -L kernel-modules/lib/modules -name 'nvidia.ko*' -exec readlink -f '{}' ';' 2>/dev/null | sed 's/^/nvidia=/'
echo "inhibitors=$(tr -d '\n' 2>/dev/null <switch-inhibitors)"
for part in kernel initrd kernel-modules kernel-params systemd; do
    if [ -L "$part" ]; then said=$(readlink -e "$part"); else said=$(cat "$part" 2>/dev/null); fi
    echo "part_$part=$said"
done

# Tells which boot this is, and how far it has come.
echo "boot=$(cat /proc/sys/kernel/random/boot_id) $(cut -d " " -f 22 /proc/1/stat)"
echo "state=$(systemctl is-system-running 2>/dev/null)"

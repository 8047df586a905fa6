# How full the disks are.
exec 2>&1
df -h
echo
df -i

# Prints what system $1 consists of: lines by section, each of which begins with a line %NAME.
#
# printf and not echo: names of units have backslashes. A linked tree like etc/zoneinfo is some thousand files; one of more
# than 256 counts as one thing, known by its store path.
set -eu
cd "$1"
export LC_ALL=C
section() { printf '%%%s\n' "$1"; }
real() { while IFS= read -r file; do printf '%s  %s\n' "$(readlink -f "$file")" "$file"; done; }
section paths
paths=$(nix-store -q --requisites "$1")
printf '%s\n' "$paths"
section sizes
printf '%s\n' "$paths" | xargs nix-store -q --size
section parts
for part in kernel initrd kernel-modules systemd; do
  if [ -e "$part" ]; then printf '%s  %s\n' "$(readlink -f "$part")" "$part"; fi
done
if [ -f kernel-params ]; then printf '%s  kernel-params\n' "$(cat kernel-params)"; fi
for file in init-interface-version switch-inhibitors; do
  if [ -f "$file" ]; then printf '%s  %s\n' "$(tr -d '\n' <"$file")" "$file"; fi
done
if [ -d kernel-modules/lib/modules ]; then
  find -L kernel-modules/lib/modules -name 'nvidia.ko*' -exec readlink -f {} ';' | sed 's/$/  nvidia/'
fi
if ! [ -d etc ]; then exit 0; fi
section sums
find -L etc/ -type d -xtype l -prune -o -type f -size -1024k -exec sha256sum {} +
section links
find -L etc/ -type d -xtype l -prune -o -type f ! -size -1024k -print | real
find -L etc/ -type d -xtype l -prune -print | while IFS= read -r tree; do
  section links
  case $tree in
    etc/systemd | etc/systemd/system) count=0 ;;
    *) count=$(find -L "$tree" -type f | head -n 257 | wc -l) ;;
  esac
  if [ "$count" -gt 256 ]; then
    printf '%s\n' "$tree" | real
  else
    find -L "$tree" -type f ! -size -1024k | real
    section sums
    find -L "$tree" -path '*.wants' -prune -o -path '*.requires' -prune -o \
      -type f -size -1024k -exec sha256sum {} +
  fi
done
if ! [ -d etc/systemd/system ]; then exit 0; fi
section wants
find -L etc/systemd/system/ \( -path '*.wants/*' -o -path '*.requires/*' \) -print
section aliases
find etc/systemd/system/ -maxdepth 1 -type l ! -lname '*/*'
section masked
find -L etc/systemd/system/ -maxdepth 1 -type c

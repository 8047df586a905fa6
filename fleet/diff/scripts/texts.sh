# Prints, of each file below $1/etc that stdin names, the first $2 bytes in base64 and the name.
set -eu
cd "$1/etc"
while IFS= read -r file; do
  if [ -f "$file" ]; then printf '%s\t%s\n' "$(head -c "$2" -- "$file" | base64 -w0)" "$file"; fi
done

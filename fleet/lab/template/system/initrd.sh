# The initrd of a VM: its version and what the host file wants done there, and stage 1 behind it.
# The kernel unpacks one archive after the other; an uncompressed one has to stand first.
# shellcheck disable=SC2154 # out, busybox, stage1, text and script are the derivation's
"$busybox" mkdir -p "$out" lab
printf %s "$text" >lab/initrd-version
[ -z "$script" ] || printf '%s\n' "$script" >lab/initrd-script
"$busybox" find lab -exec "$busybox" touch -d @1 '{}' +
"$busybox" find lab | "$busybox" cpio -o -H newc >extra
"$busybox" cat extra "$stage1" >"$out/initrd"

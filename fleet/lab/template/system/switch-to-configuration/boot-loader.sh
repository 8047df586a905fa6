# --- the boot loader ---

# FILE TEXT: the file has the text, also after a power cut, and was never half written.
write_synced() {
    printf '%s\n' "$2" | cmp -s - "$1" && return 0
    printf '%s\n' "$2" >"$1.tmp" && sync "$1.tmp" && mv -f "$1.tmp" "$1"
}

generations() {
    for link in "$profiles"/system-*-link; do
        [ -L "$link" ] || continue
        number=${link##*/system-}
        echo "${number%-link}"
    done | sort -n
}

# FILE FOLDER SUFFIX: its copy on the boot partition, named after its store path as NixOS names it; where it stands there.
boot_file() {
    source=$(readlink -e "$1") || return 0 # a system made by hand may have none
    name=$2/$(echo "${source#/nix/store/}" | tr / -)$3
    if ! cmp -s "$source" "/boot/$name"; then
        mkdir -p "/boot/$2"
        cp "$source" "/boot/$name.tmp" && sync "/boot/$name.tmp" && mv -f "/boot/$name.tmp" "/boot/$name" || return 1
    fi
    echo "/$name"
}

install_boot_loader() {
    [ ! -e "$toplevel/lab/before-boot-loader" ] || sh -e "$toplevel/lab/before-boot-loader" "$toplevel" >&2 || return
    if [ -e "$toplevel/lab/boot-loader-script" ]; then
        sh -e "$toplevel/lab/boot-loader-script" "$toplevel" >&2
        return
    fi
    if [ -e "$grub" ]; then install_grub; else install_systemd_boot; fi
}

# As nixpkgs' builder writes it: each time, and by way of a file that must not be there before.
write_loader_conf() {
    (set -C && printf '%s\n' "$1" >"$boot/loader.tmp") && sync "$boot/loader.tmp" && mv -f "$boot/loader.tmp" "$boot/loader.conf"
}

# As nixpkgs' systemd-boot builder did for years: an entry for each generation of the profile; for a closure in
# none of them no entry, and an untouched loader.conf. What no generation needs goes first: the partition is small.
install_systemd_boot() {
    mkdir -p "$boot/entries" || return 1
    for entry in "$boot"/entries/nixos-generation-*.conf; do
        number=${entry##*/nixos-generation-}
        [ -L "$profiles/system-${number%.conf}-link" ] || rm -f "$entry"
    done
    for file in /boot/EFI/nixos/*; do
        grep -qF "${file#/boot}" "$boot"/entries/*.conf 2>/dev/null || rm -f "$file"
    done
    mine=
    for number in $(generations); do
        closure=$(readlink -f "$profiles/system-$number-link")
        linux=$(boot_file "$closure/kernel" EFI/nixos .efi) && initrd=$(boot_file "$closure/initrd" EFI/nixos .efi) || return 1
        write_synced "$boot/entries/nixos-generation-$number.conf" "title NixOS
version Generation $number $(cat "$closure/nixos-version" 2>/dev/null)
linux $linux
initrd $initrd
options init=$closure/init $(cat "$closure/kernel-params" 2>/dev/null)" || return 1
        [ "$closure" != "$toplevel" ] || mine=$number
    done
    [ -z "$mine" ] || write_loader_conf "timeout 0
default nixos-generation-$mine.conf
console-mode keep" || return 1
    sync -f "$boot"
}

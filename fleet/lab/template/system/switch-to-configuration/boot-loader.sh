# --- the boot loader ---
#
# The lab switches all the time, and its hosts have many generations: what stays as it is runs no other program.

compared=' '
newline='
'

# FILE: its first line is $text; nothing if it is not there.
read_text() {
    text=''
    { IFS= read -r text <"$1"; } 2>/dev/null
    return 0
}

# FILE TEXT: whether the file has the text, and no more.
has_text() {
    [ -f "$1" ] || return 1
    text=''
    while IFS= read -r line; do text="$text$line$newline"; done <"$1"
    [ -z "$line" ] && [ "$text" = "$2$newline" ]
}

# FILE TEXT: the file has the text, also after a power cut, and was never half written.
write_synced() {
    has_text "$1" "$2" && return 0
    printf '%s\n' "$2" >"$1.tmp" && sync "$1.tmp" && mv -f "$1.tmp" "$1"
}

generations() {
    for link in "$profiles"/system-*-link; do
        [ -L "$link" ] || continue
        number=${link##*/system-}
        echo "${number%-link}"
    done | sort -n
}

# FILE FOLDER SUFFIX: $copied is where its copy on the boot partition stands there, named after its store path as NixOS names
# it. A system made by hand may have none. Each is compared once: it is the same in most generations.
boot_file() {
    copied=''
    [ -e "$1" ] || return 0
    rest=${1#/nix/store/} name=''
    while [ "$rest" != "${rest#*/}" ]; do name=$name${rest%%/*}- rest=${rest#*/}; done
    name=$2/$name$rest$3
    copied=/$name
    case $compared in *" $name "*) return 0 ;; esac
    if ! cmp -s "$1" "/boot/$name"; then
        mkdir -p "/boot/$2"
        cp "$1" "/boot/$name.tmp" && sync "/boot/$name.tmp" && mv -f "/boot/$name.tmp" "/boot/$name" || return 1
    fi
    compared="$compared$name "
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
    mine='' numbers=$(generations) links='' files=''
    for number in $numbers; do links="$links $profiles/system-$number-link"; done
    closures=$([ -z "$links" ] || readlink -m $links)
    for closure in $closures; do files="$files $closure/kernel $closure/initrd"; done
    set -- $([ -z "$files" ] || readlink -m $files)
    for number in $numbers; do
        closure=${closures%%"$newline"*} closures=${closures#*"$newline"}
        boot_file "$1" EFI/nixos .efi && linux=$copied && boot_file "$2" EFI/nixos .efi && initrd=$copied || return 1
        shift 2
        read_text "$closure/nixos-version"
        entry="title NixOS
version Generation $number $text
linux $linux
initrd $initrd"
        read_text "$closure/kernel-params"
        write_synced "$boot/entries/nixos-generation-$number.conf" "$entry
options init=$closure/init $text" || return 1
        [ "$closure" != "$toplevel" ] || mine=$number
    done
    [ -z "$mine" ] || write_loader_conf "timeout 0
default nixos-generation-$mine.conf
console-mode keep" || return 1
    sync -f "$boot"
}

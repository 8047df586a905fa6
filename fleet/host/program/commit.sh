# --- the keeper, forward: the commit -------------------------------------------------------------------

# sets: next status
committing() {
    undisturbed || return
    [ -e commit ] || own_checks_pass || return
    put_durably commit || { blame silent "commit: cannot write $record"; return; }
    ensure_boot_space || { blame silent "commit: $why"; return; }
    set_profile "$new" || { blame silent "commit: cannot set $profile"; return; }
    sync -f $profiles
    undisturbed || return
    write_boot_loader "$new"
    status=$?
    case $status in
        0) ;;
        11) blame silent "commit: another switch holds the lock"; return ;;
        124) blame silent "commit: boot loader did not end within 300 s"; return ;;
        129 | 1[3-9]? | 2??) blame silent "commit: boot loader was killed (exit status $status)"; return ;;
        *) blame_boot_loader; return ;;
    esac
    sync_boot
    undisturbed || return
    verify_boot || return
    next=committed
}

# Succeed if nobody switches now, and nobody has: NEW is what runs. This is asked again after every wait.
undisturbed() {
    wait_for_switch_lock || { blame silent "commit: another switch holds the lock: $(switch_lock_holder)"; return 1; }
    unchanged_by_others || return
    [ "$running" = "$new" ] || { blame silent "commit: the new system does not run any more"; return 1; }
}

# sets: folder
sync_boot() {
    sync -f $profiles
    [ $driver = nixos ] || return 0
    find_boot_folders
    for folder in $folders; do sync -f "$folder"; done
}

# Let the next boot activate system $1, which the profile names: NixOS's boot loader does, or what another driver has in its
# place.
write_boot_loader() { "${driver}_commit" "$1"; }

# Print each file in the boot folders, and when it was written.
boot_files() {
    for folder in $folders; do find "$folder" -xdev -maxdepth 5 -type f -printf '%p %T@ %s\n' 2>/dev/null; done |
        head -n 20000 | LC_ALL=C sort -u
}

blame_boot_loader() {
    [ $driver = nixos ] || { blame found "commit: failed with exit status $status"; return; }
    read_boot
    if [ -n "$unmounted" ] && [ -z "$default" ]; then
        blame silent "commit: boot loader failed: $doubt"
    elif ! has_room_left; then
        blame silent "commit: boot loader failed: $why"
    else
        blame found "commit: boot loader failed"
    fi
}

# Read back what boots next. Tools of boot loaders have exited 0 with nothing written, so the files are looked at. What cannot
# be read is no reason to go back: it is told.
verify_boot() {
    read_boot
    if [ "$(profile_system)" != "$new" ]; then
        blame silent "commit: $profile does not name the new system any more"
    elif [ "$default" = "$new" ]; then
        put boot_entry "$new"
        [ "$loader" = systemd_boot ] || return 0
        ! files_of_entry "$menu_entry" | names_files_of_new || return 0
        blame found "commit: the boot entry's files are not those of the new system"
    elif [ -z "$default" ] && ! has_lost_entries; then
        put boot_entry unverified && put boot_doubt "$doubt"
        return
    elif [ -n "$default" ] && has_written_elsewhere; then
        put boot_entry unverified
        put boot_doubt "the new system has another boot loader than the one that boots this machine, which would boot $default"
        return
    else
        case $chosen_by in
            LoaderEntryPreferred*) blame_person "the EFI variable LoaderEntryPreferred" "bootctl set-preferred sets it" ;;
            LoaderEntryDefault*) blame_person "the EFI variable LoaderEntryDefault" "bootctl set-default sets it" ;;
            *@saved) blame_person "'default @saved' in $conf" "it boots what was booted last" ;;
            *) blame found "commit: the boot default is '$default', not the new system" ;;
        esac
    fi
    return 1
}

# Say that $1, which a person has set, makes another system than NEW boot; and what to know of that.
blame_person() { blame silent "commit: $1 makes $default boot; $2"; }

# Print what the boot loader of the new system has written or removed since the commit began.
rewritten() { boot_files | diff before - | sed -n 's/^[<>] \([^ ]*\) .*/\L\1/p'; }

# Succeed if it has written, and none of that is of the boot loader in use.
# sets: theirs
has_written_elsewhere() {
    case $loader in
        systemd_boot) theirs='/loader/|/efi/(nixos|linux|systemd)/' ;;
        grub) theirs='/(grub|kernels)/' ;;
        extlinux) theirs='/(extlinux|nixos)/' ;;
        *) theirs=$firmware/ ;;
    esac
    [ -n "$(rewritten)" ] && ! rewritten | grep -qE "$theirs"
}

# Succeed if systemd-boot had entries, and the commit has removed all of them.
has_lost_entries() {
    [ "$loader" = systemd_boot ] && list_entries && [ -z "$entries" ] && rewritten | grep -q '/loader/entries/'
}

# Succeed if lines `linux FILE` and `initrd FILE`, read from stdin, name copies of what NEW has. Another initrd may come with
# that.
# sets: key file initrd
names_files_of_new() {
    initrd=none
    while read -r key file; do
        case $key in
            linux) is_copy_of "$new/kernel" "$file" || return ;;
            initrd) if is_copy_of "$new/initrd" "$file"; then initrd=its; elif [ $initrd = none ]; then initrd=other; fi ;;
        esac
    done
    [ $initrd != other ]
}

# Succeed if file $2 begins with all of $1. A system made by hand may have none; an initrd may have secrets behind it.
is_copy_of() { [ ! -e "$1" ] || cmp -s -n "$(stat -L -c %s "$1")" "$1" "$2"; }

# Make room for what the boot loader will copy, if need be by dropping what no generation needs.
ensure_boot_space() {
    has_boot_space && return
    write_boot_loader "$old"
    has_boot_space
}

has_boot_space() {
    read_boot
    [ "$loader" = systemd_boot ] || return 0    # others read the store, or say what they lack
    case $menu_entry in */loader/entries/*) ;; *) return 0 ;; esac
    fits_into "${menu_entry%/loader/entries/*}"
}

# Succeed unless a boot loader has failed where it has no room for what it copies: that is no fault of NEW.
# sets: files file
has_room_left() {
    case $loader in
        systemd_boot) find_boot_files loader/loader.conf ;;
        extlinux) find_boot_files extlinux/extlinux.conf ;;
        grub) find_boot_files grub/grub.cfg ;;
        raspberry_pi) files=$firmware/nixos/cmdline.txt ;;
        *) files= ;;
    esac
    for file in $files; do fits_into "${file%/*/*}" || return; done
}

# Succeed if folder $1 has the kernel and the initrd of NEW, or room for them; else $why says what it lacks.
# sets: why folder needed part size free
fits_into() {
    folder=$1 needed=0
    for part in kernel initrd; do
        size=$(stat -L -c %s "$new/$part" 2>/dev/null) || continue
        [ -n "$(find "$folder" -type f -size "${size}c" -exec cmp -s '{}' "$new/$part" ';' -print -quit)" ] ||
            needed=$((needed + size))
    done
    [ $needed -ne 0 ] || return 0
    free=$(df -B1 --output=avail "$folder" | tail -n 1)
    why="$folder has $((free >> 20)) MiB free, the new system needs $((needed >> 20)) MiB more than that leaves"
    [ $((needed + (1 << 20))) -le "$free" ]
}

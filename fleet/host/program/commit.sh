# --- the keeper, forward: the commit -------------------------------------------------------------------

# sets: next status
committing() {
    undisturbed || return
    put_durably commit || { blame silent "commit: cannot write $record"; return; }
    ensure_boot_space || { blame silent "commit: $why"; return; }
    with_timeout 60 nix-env --profile $profile --set "$new" || { blame silent "commit: cannot set $profile"; return; }
    sync -f $profiles
    undisturbed || return
    with_timeout 300 "$new/bin/switch-to-configuration" boot
    status=$?
    case $status in
        0) ;;
        11) blame silent "commit: another switch holds the lock"; return ;;
        124) blame silent "commit: boot loader did not end within 300 s"; return ;;
        129 | 1[3-9]? | 2??) blame silent "commit: boot loader was killed (exit status $status)"; return ;;
        *) blame found "commit: boot loader failed"; return ;;
    esac
    sync_boot
    undisturbed || return
    verify_boot || return
    next=committed
}

# Succeed if nobody switches now, and nobody has. This is asked again after every wait.
undisturbed() {
    wait_for_switch_lock || { blame silent "commit: another switch holds the lock: $(switch_lock_holder)"; return 1; }
    unchanged_by_others || return
    [ "$(running_system)" = "$new" ] || { blame silent "commit: the new system does not run any more"; return 1; }
}

# sets: folder
sync_boot() {
    sync -f $profiles
    for folder in $(boot_folders); do sync -f "$folder"; done
}

# Read back what boots next. Tools of boot loaders have exited 0 with nothing written, so the files are looked at.
# sets: default
verify_boot() {
    default=$(boot_default)
    put boot_entry "${default:-unverified}"
    if [ "$(profile_system)" != "$new" ]; then
        blame silent "commit: $profile does not name the new system any more"
    elif boot_default_is_new; then
        return
    elif [ "$default" = "$new" ]; then
        blame found "commit: the boot entry's files are not those of the new system"
    elif [ -n "$(efi_default_entry)" ]; then
        blame silent "commit: the EFI variable LoaderEntryDefault makes $default boot; bootctl set-default sets it"
    else
        blame found "commit: the boot default is '$default', not the new system"
    fi
    return 1
}

# Succeed if $default is NEW with all its files, or if nothing can be known, as before.
# sets: entry
boot_default_is_new() {
    if [ "$default" != "$new" ]; then [ -z "$default$(get old_boot)" ]; return; fi
    ! entry=$(default_entry) || files_of_entry "$entry" | names_files_of_new
}

# Succeed if lines `linux FILE` and `initrd FILE`, read from stdin, name copies of what NEW has.
# sets: key file part
names_files_of_new() {
    while read -r key file; do
        case $key in linux) part=$new/kernel ;; initrd) part=$new/initrd ;; *) continue ;; esac
        # A system made by hand may have none; an initrd may have secrets behind it.
        [ ! -e "$part" ] || cmp -s -n "$(stat -L -c %s "$part")" "$part" "$file" || return
    done
}

# Make room for what the boot loader will copy, if need be by dropping what no generation needs.
ensure_boot_space() {
    has_boot_space && return
    with_timeout 300 env NIXOS_NO_CHECK=1 "$old/bin/switch-to-configuration" boot
    has_boot_space
}

# sets: why entry folder needed part size free
has_boot_space() {
    entry=$(default_entry) || return 0  # other boot loaders read the store, or say what they lack
    folder=${entry%/loader/entries/*} needed=0
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

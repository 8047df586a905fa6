# --- NixOS ----------------------------------------------------------------------------------------------

# sets: systems running profiled
nixos_facts() {
    systems=$(readlink -f /run/current-system $profile)
    running=${systems%%"$newline"*} profiled=${systems#*"$newline"}
    case $systems in *"$newline"*) ;; *) running=$(running_system) profiled=$(profile_system) ;; esac
}

# sets: units
nixos_units() { units=$1/etc/systemd/system; }

# Activate system $1. Its exit status 4 may hide a 2, by what it has said.
# sets: status
nixos_activate() {
    bounded "$1/bin/switch-to-configuration" test
    status=$?
    [ $status -eq 4 ] || return $status
    with_timeout 10 journalctl --sync
    ! said_by "$2" | grep -qxF 'Failed to run activate script' || return 2
    return 4
}

nixos_go_back() { bounded "$1/activate" "$1"; }

# Let system $1 write the files of its boot loader. Its pre-switch checks passed before the switch, and have nothing to say any
# more.
# sets: status
nixos_commit() {
    find_boot_folders
    [ "$1" != "$new" ] || [ -e before ] || boot_files >before
    remove_half_written
    with_timeout 300 env NIXOS_NO_CHECK=1 "$1/bin/switch-to-configuration" boot
    status=$?
    [ $status -eq 0 ] || remove_half_written
    return $status
}

# What a builder has left that was killed, or found no room, stops each later one, also by hand: systemd-boot's makes loader.tmp
# anew, or fails.
remove_half_written() {
    find_boot_files loader/loader.tmp
    # shellcheck disable=SC2086  # a list
    [ -z "$files" ] || ! switch_lock_is_free || rm -f $files
}

# The files of the boot loader say it.
# sets: doubt
nixos_verify() {
    find_boot_folders
    find_booted_by
    [ -n "$loader" ] || find_last_written
    case $loader in
        systemd_boot | extlinux | grub | raspberry_pi) "${loader}_default" ;;
        '') doubt="no files of a boot loader that fleet can read are there" ;;
        *) doubt="this machine was booted by '$loader', whose files fleet cannot read" ;;
    esac
    [ -n "$default" ] || [ -z "$unmounted" ] || doubt="$unmounted is in $fstab and not mounted"
}

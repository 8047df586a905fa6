# --- what boots next, and which boot loader says it ----------------------------------------------------
#
# The boot loader in use is the one that has booted this machine, by what it left: GRUB on the kernel's command line, others in
# an EFI variable. Where nothing tells, it is the one whose files were written last: every switch to a boot default writes
# them, and nobody those that another boot loader has left behind. What cannot be read is said ($doubt), and never guessed.

platform=/sys/firmware                  # empty in a container, which sees no firmware
command_line=/proc/cmdline
booted=/run/booted-system
mounts=/proc/self/mounts
fstab=/etc/fstab
boot_places="/boot /boot/efi /efi"        # and $firmware

# Print the system that boots next; nothing where that cannot be read.
boot_default() { read_boot; [ -z "$default" ] || echo "$default"; }

# Print the name of the boot loader in use. It has functions by this name: NAME_default; and where it can boot an entry once
# NAME_boots_once, NAME_add_trial, NAME_choose_trial and NAME_remove_trial.
boot_loader() { read_boot; echo "$loader"; }

# Let $default be the system that boots next, by the files of $loader; or let it be empty, and $doubt say why.
# sets: default doubt menu_entry chosen_by loader
read_boot() {
    default='' doubt='' menu_entry='' chosen_by=''
    find_boot_folders
    loader=$(booted_by)
    [ -n "$loader" ] || loader=$(last_written)
    case $loader in
        systemd_boot | extlinux | grub | raspberry_pi) "${loader}_default" ;;
        '') doubt="no files of a boot loader that fleet can read are there" ;;
        *) doubt="this machine was booted by '$loader', whose files fleet cannot read" ;;
    esac
    [ -n "$default" ] || [ -z "$unmounted" ] || doubt="$unmounted is in $fstab and not mounted"
}

# Print the boot loader that has booted this machine, by what it left behind; nothing where none has left anything.
# sets: line
booted_by() {
    line=$(get $command_line)
    # In a container that is its host's.
    if [ "$(system_of_command_line "$line")" = "$(readlink -f $booted)" ]; then
        case " $line" in *" BOOT_IMAGE=("*) echo grub; return ;; esac
    fi
    [ -e "$efi/LoaderInfo-$loader_guid" ] || return 0
    line=$(efi_variable LoaderInfo | LC_ALL=C tr -dc ' -~' | head -c 60)
    case $line in
        systemd-boot* | gummiboot*) echo systemd_boot ;;
        grub*) echo grub ;;
        ?*) echo "$line" ;;
    esac
}

# Print the boot loader whose files were written last, of those that can have booted this machine.
last_written() {
    # shellcheck disable=SC2046  # a list
    set -- $(files_in_folders extlinux/extlinux.conf grub/grub.cfg)
    # shellcheck disable=SC2046
    if systemd_boot_may_have_booted; then set -- "$@" $(files_in_folders loader/loader.conf); fi
    if raspberry_pi_may_have_booted; then set -- "$@" "$firmware/$(raspberry_pi_prefix)/cmdline.txt"; fi
    case $(newest_of "$@") in
        */extlinux.conf) echo extlinux ;;
        */grub.cfg) echo grub ;;
        */loader.conf) echo systemd_boot ;;
        */cmdline.txt) echo raspberry_pi ;;
    esac
}

# Print the system that kernel command line $1 boots: the last `init` counts.
# sets: word system
system_of_command_line() {
    system=
    for word in $1; do
        case $word in init=*) system=${word#init=} ;; esac
    done
    case $system in
        /nix/store/*/*/init) return 1 ;;        # the target of a link: whose, it does not tell
        /*/init) echo "${system%/init}" ;;
        *) return 1 ;;
    esac
}

# Let $folders be those in which a boot loader may have its files: where NixOS has them, and what is mounted at such a place. And
# $unmounted those where a partition should be, and is not.
# sets: folders unmounted
find_boot_folders() {
    unmounted=$(unmounted_boot_folders)
    folders=$({
        if [ -d $platform/efi ]; then bootctl --print-esp-path; bootctl --print-boot-path; fi 2>/dev/null
        # shellcheck disable=SC2086  # a list
        printf '%s\n' $boot_places $firmware
        while read -r _ folder _; do if is_boot_place "$folder"; then echo "$folder"; fi; done 2>/dev/null <$mounts
    } | while read -r folder; do
        # shellcheck disable=SC2086  # a list
        if [ -d "$folder" ] && ! is_below "$folder" $unmounted; then echo "$folder"; fi
    done | xargs -r readlink -f | sort -u)
    # shellcheck disable=SC2086  # words
    set -- $unmounted
    unmounted=$*
}

is_boot_place() { case $1 in *\\*) return 1 ;; /boot* | /efi* | /esp*) ;; *) return 1 ;; esac; }

# Succeed if folder $1 is one of the others, or in one.
# sets: inner
is_below() {
    inner=$1
    shift
    while [ $# -gt 0 ]; do
        case $inner/ in "$1"/*) return ;; esac
        shift
    done
    return 1
}

# Print the folders of fstab that should have a boot partition and have none: no boot loader reads what is written there.
# sets: device folder
unmounted_boot_folders() {
    while read -r device folder _; do
        case $device in '#'*) continue ;; esac
        is_boot_place "$folder" || continue
        # To look into it mounts an automount.
        { [ -e "$folder/." ] && is_mount_point "$folder"; } || echo "$folder"
    done 2>/dev/null <$fstab
}

is_mount_point() { mountpoint -q "$1"; }

# Print each of the files that is there in a boot folder.
# sets: folder file
files_in_folders() {
    for folder in $folders; do
        for file; do [ ! -e "$folder/$file" ] || echo "$folder/$file"; done
    done
}

# Print that of the files which was written last.
newest_of() { [ $# -eq 0 ] || find "$@" -maxdepth 0 -printf '%T@ %p\n' | sort -rn | head -n 1 | cut -d ' ' -f 2-; }

# How an entry is booted once:
#
#                 what chooses the entry              who forgets that, before NEW has a chance to panic
#   systemd-boot  an EFI variable                     the boot loader
#   GRUB          next_entry in grubenv               lines in NixOS's grub.cfg, where GRUB can write
#   Raspberry Pi  tryboot, an argument of the reboot  the firmware, which reads tryboot.txt that once

trial=fleet-trial
# Kernel parameters that reset the machine where the kernel, stage 1 or systemd would stand still.
reset_parameters="panic=5 boot.panic_on_fail systemd.crash_reboot=1"

# Succeed if the boot loader can boot an entry for one boot, and the default after it.
# sets: why
boots_once() {
    read_boot
    why="only systemd-boot, GRUB and the firmware of a Raspberry Pi can"
    case $loader in
        systemd_boot | grub | raspberry_pi) ;;
        *) return 1 ;;
    esac
    why=$doubt
    [ -n "$default" ] && "${loader}_boots_once"
}

# Let file $1 have text $2, on the disk too; it never has half of it.
replace_synced() {
    printf '%s\n' "$2" | openly tee "${1%/*}/.$trial" >/dev/null && mv -f "${1%/*}/.$trial" "$1" && sync -f "${1%/*}"
}

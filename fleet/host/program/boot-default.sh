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
boot_mounts="/boot /efi /esp"           # how the places begin where else a boot partition may be mounted

# Print the system that boots next; nothing where that cannot be read.
boot_default() { read_boot; [ -z "$default" ] || echo "$default"; }

# Print the name of the boot loader in use. It has functions by this name: NAME_default; and where it can boot an entry once
# NAME_boots_once, NAME_add_trial, NAME_choose_trial and NAME_remove_trial.
boot_loader() { read_boot; echo "$loader"; }

# Let $default be the system that a boot activates; or let it be empty, and $doubt say why.
# sets: default doubt menu_entry chosen_by loader unmounted
read_boot() {
    default='' doubt='' menu_entry='' chosen_by='' loader='' unmounted=''
    "${driver}_verify"
}

# Let $loader be the boot loader that has booted this machine, by what it left behind; empty where none has left anything.
# sets: loader
find_booted_by() {
    loader=''
    read_line $command_line
    case " $text" in
        # In a container that is its host's.
        *" BOOT_IMAGE=("*) if system_of_command_line "$text" && [ "$system" = "$(readlink -f $booted)" ]; then loader=grub; return; fi ;;
    esac
    read_efi LoaderInfo
    [ -n "$variable" ] || return
    loader=$(printf %s "$variable" | LC_ALL=C tr -dc ' -~' | head -c 60)
    case $loader in
        systemd-boot* | gummiboot*) loader=systemd_boot ;;
        grub*) loader=grub ;;
    esac
}

# Let $loader be the one whose files were written last, of those that can have booted this machine; empty where there are none.
# sets: loader
find_last_written() {
    if systemd_boot_may_have_booted; then set -- loader/loader.conf; else set --; fi
    find_boot_files extlinux/extlinux.conf grub/grub.cfg "$@"
    # shellcheck disable=SC2086  # a list
    set -- $files
    if raspberry_pi_may_have_booted; then set -- "$@" "$firmware/$(raspberry_pi_prefix)/cmdline.txt"; fi
    find_newest "$@"
    case $newest in
        */extlinux.conf) loader=extlinux ;;
        */grub.cfg) loader=grub ;;
        */loader.conf) loader=systemd_boot ;;
        */cmdline.txt) loader=raspberry_pi ;;
        *) loader='' ;;
    esac
}

# Let $system be the one that kernel command line $1 boots: the last `init` counts. Fail where it names none.
# sets: word system
system_of_command_line() {
    system=
    for word in $1; do
        case $word in init=*) system=${word#init=} ;; esac
    done
    case $system in
        /nix/store/*/*/init) system='' ;;       # the target of a link: whose, it does not tell
        /*/init) system=${system%/init} ;;
        *) system='' ;;
    esac
    [ -n "$system" ]
}

# Let $folders be those in which a boot loader may have its files: where NixOS has them, and what is mounted at such a place. And
# $unmounted those where a partition should be, and is not.
# sets: folders folder places
find_boot_folders() {
    find_unmounted
    find_boot_mounts $mounts
    # shellcheck disable=SC2086  # a list
    set -- $mounted
    # shellcheck disable=SC2046  # a list
    [ ! -d $platform/efi ] || set -- "$@" $({ bootctl --print-esp-path; bootctl --print-boot-path; } 2>/dev/null)
    places=
    for folder in $boot_places $firmware "$@"; do
        # shellcheck disable=SC2086  # a list
        if [ -d "$folder" ] && ! is_below "$folder" $unmounted; then places="$places $folder"; fi
    done
    folders=
    # shellcheck disable=SC2086  # a list
    [ -z "$places" ] || for folder in $(readlink -f $places); do
        case " $folders " in *" $folder "*) ;; *) folders="$folders $folder" ;; esac
    done
}

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

# Let $mounted be the places in $1, a list like fstab, where a boot partition may be mounted. One that is written with an
# escape is none.
# sets: device where beginning mounted
find_boot_mounts() {
    mounted=
    while read -r device where _ || [ -n "$device" ]; do
        case $device:$where in *'#'*:* | *\\*) continue ;; esac
        for beginning in $boot_mounts; do
            case $where in "$beginning"*) mounted="$mounted $where"; break ;; esac
        done
    done 2>/dev/null <"$1"
}

# Let $unmounted be the folders of fstab that should have a boot partition and have none: no boot loader reads what is
# written there.
# sets: folder unmounted
find_unmounted() {
    unmounted=
    find_boot_mounts $fstab
    for folder in $mounted; do
        # To look into it mounts an automount.
        { [ -e "$folder/." ] && is_mount_point "$folder"; } || unmounted="${unmounted:+$unmounted }$folder"
    done
}

is_mount_point() { mountpoint -q "$1"; }

# Let $files be each of these files that is there in a boot folder.
# sets: folder file files
find_boot_files() {
    files=
    for folder in $folders; do
        for file; do [ ! -e "$folder/$file" ] || files="${files:+$files }$folder/$file"; done
    done
}

# Let $newest be that of the files which was written last.
# sets: newest
find_newest() {
    newest=${1-}
    [ $# -lt 2 ] || newest=$(find "$@" -maxdepth 0 -printf '%T@ %p\n' | sort -rn | head -n 1 | cut -d ' ' -f 2-)
}

# Succeed if nothing is in folder $1.
# sets: file
is_empty() {
    set +f
    for file in "$1"/*; do [ ! -e "$file" ] || break; done
    set -f
    [ ! -e "$file" ]
}

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

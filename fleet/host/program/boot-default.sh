# --- what boots next, and which boot loader says it ----------------------------------------------------

# Print the system that boots next; fail where no files of a boot loader tell.
boot_default() { systemd_boot_default || extlinux_default || grub_default || raspberry_pi_default; }

# Print the name of the boot loader whose files say that. Each has functions by this name: NAME_default; and where it can
# boot an entry once NAME_boots_once, NAME_add_trial, NAME_choose_trial and NAME_remove_trial.
# sets: name
boot_loader() {
    for name in systemd_boot extlinux grub raspberry_pi; do
        if "${name}_default" >/dev/null; then echo $name; return; fi
    done
}

# Print the system that kernel command line $1 boots.
# sets: word
system_of_command_line() {
    for word in $1; do
        case $word in init=*/init) word=${word#init=}; echo "${word%/init}"; return 0 ;; esac
    done
    return 1
}

boot_folders() {
    for folder in "$(bootctl --print-esp-path 2>/dev/null)" "$(bootctl --print-boot-path 2>/dev/null)" \
        /boot /boot/efi /efi $firmware; do
        if [ -n "$folder" ] && [ -d "$folder" ]; then readlink -f "$folder"; fi
    done | sort -u
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
# sets: why loader
boots_once() {
    why="only systemd-boot, GRUB and the firmware of a Raspberry Pi can"
    loader=$(boot_loader)
    case $loader in
        systemd_boot | grub | raspberry_pi) "${loader}_boots_once" ;;
        *) return 1 ;;
    esac
}

# Let file $1 have text $2, on the disk too; it never has half of it.
replace_synced() { printf '%s\n' "$2" >"${1%/*}/.$trial" && mv -f "${1%/*}/.$trial" "$1" && sync -f "${1%/*}"; }

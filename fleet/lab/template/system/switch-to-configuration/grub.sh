# --- the boot loader, where it is GRUB ---

# As nixpkgs' GRUB builder: the closure is the first entry and the default, generations are in a submenu, and what
# grub-reboot has chosen boots once. Files that no entry needs go last.
install_grub() {
    uuid=$(blkid -s UUID -o value "$(findmnt -nro SOURCE -T /boot)")
    grub_menu >"$grub/grub.cfg.tmp" && sync "$grub/grub.cfg.tmp" && mv -f "$grub/grub.cfg.tmp" "$grub/grub.cfg" || return 1
    for file in /boot/kernels/*; do
        grep -qF "/kernels/${file##*/}" "$grub/grub.cfg" || rm -f "$file"
    done
    sync -f "$grub"
}

grub_menu() {
    cat <<MENU
# Made by switch-to-configuration of $toplevel

        search --set=drive1 --fs-uuid $uuid
        if [ -s \$prefix/grubenv ]; then
          load_env
        fi

        if [ "\${next_entry}" ]; then
          set default="\${next_entry}"
          set next_entry=
          save_env next_entry
          set timeout=1
          set boot_once=true
        else
          set default=0
          set timeout=0
        fi

MENU
    grub_entry "NixOS - Default" "$toplevel" --unrestricted || return 1
    echo 'submenu "NixOS - All configurations" --class submenu {'
    for number in $(generations | sort -rn); do
        closure=$(readlink -f "$profiles/system-$number-link")
        grub_entry "NixOS - Configuration $number" "$closure" || return 1
    done
    echo '}'
}

# TITLE CLOSURE OPTIONS
grub_entry() {
    boot_file "$(readlink -m "$2/kernel")" kernels '' && linux=$copied || return 1
    boot_file "$(readlink -m "$2/initrd")" kernels '' && initrd=$copied || return 1
    cat <<ENTRY
menuentry "$1" --class nixos ${3-} {
search --set=drive1 --fs-uuid $uuid
  linux (\$drive1)/$linux init=$2/init $(cat "$2/kernel-params" 2>/dev/null)
  initrd (\$drive1)/$initrd
}

ENTRY
}

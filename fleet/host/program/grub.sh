# --- GRUB ----------------------------------------------------------------------------------------------

grub=/boot/grub

# Let $default be the system of the first entry: NixOS boots that, unless told otherwise.
# sets: default doubt conf chosen inside key value
grub_default() {
    find_boot_files grub/grub.cfg
    # shellcheck disable=SC2086  # a list: with mirroredBoots there are several, which are written together
    find_newest $files
    conf=$newest
    chosen='' inside='' doubt="no grub/grub.cfg is on the boot partition"
    [ -n "$conf" ] || return
    while read -r key value; do
        # shellcheck disable=SC2016  # grub's variable, not ours
        case "$key $value" in
            'set default="${next_entry}"') ;;
            'set default='*) [ -n "$inside" ] || chosen=${value#default=} ;;
            menuentry\ *) [ -z "$inside" ] || break; inside=yes ;;
            submenu\ *) break ;;
            linux*\ * | module*\ *) if [ -n "$inside" ] && system_of_command_line "$value"; then default=$system; break; fi ;;
        esac
    done <"$conf"
    doubt=''
    case $chosen in
        0 | '"0"') [ -n "$default" ] || doubt="the first entry of $conf, which boots, names no system" ;;
        *) default='' doubt="$conf boots entry '$chosen', and not its first" ;;
    esac
}

# Succeed if GRUB forgets next_entry as it boots it. Else a NEW that panics would boot again and again.
# sets: why line number type source
grub_boots_once() {
    find_boot_files grub/grub.cfg
    why="GRUB has $files and which one it reads is not certain: only $grub/grub.cfg would do"
    [ "$files" = "$(readlink -f $grub/grub.cfg)" ] || return
    # shellcheck disable=SC2016  # grub's variable, not ours
    for line in load_env 'set default="${next_entry}"' 'save_env next_entry'; do
        why="$grub/grub.cfg has no line: $line"
        grep -qx "[[:space:]]*$line" $grub/grub.cfg || return
    done
    why="$grub/grubenv is no environment block with room in it; grub-editenv $grub/grubenv create makes one"
    [ "$(stat -c %s $grub/grubenv 2>/dev/null)" = 1024 ] && grep -qx '# GRUB Environment Block' $grub/grubenv &&
        [ -z "$(tail -c 32 $grub/grubenv | tr -d '#')" ] || return
    read -r number type source <<EOF
$(findmnt -nro MAJ:MIN,FSTYPE,SOURCE -T $grub | tail -n 1)
EOF
    why="GRUB writes to vfat and ext4 on a plain partition, and $grub is on $type of $source"
    case $type:$(readlink -f "/sys/dev/block/$number") in
        *:*/virtual/block/*) return 1 ;;        # LVM, LUKS, RAID
        vfat:* | ext[234]:*) [ -e "/sys/dev/block/$number/partition" ] ;;
        *) return 1 ;;
    esac
}

# Add an entry in which GRUB itself looks again: where it could not forget next_entry, the entry boots OLD.
# sets: to_new to_old
grub_add_trial() {
    to_new=$(grub_commands_for "$new") to_old=$(grub_commands_for "$old")
    [ -n "$to_new" ] && [ -n "$to_old" ] || return
    printf '%s\n' "$to_new" | sed -n 's|^ *\([a-z]* \)[^ ]*\(/kernels/[^ ]*\).*|\1/boot\2|p' |
        names_files_of_new || return
    replace_synced $grub/grub.cfg "$(grub_menu_without_trial)
menuentry $trial --unrestricted {
load_env
if [ -z \"\${next_entry}\" ]; then
$(printf '%s\n' "$to_new" | sed "s|^ *linux .*|& $reset_parameters|")
else
$to_old
fi
}"
}

grub_choose_trial() { grub_set_next_entry $trial && grep -qx next_entry=$trial $grub/grubenv; }

# sets: menu
grub_remove_trial() {
    ! grep -qsx next_entry=$trial $grub/grubenv || grub_set_next_entry ''
    grep -qs "^menuentry $trial " $grub/grub.cfg || return 0
    menu=$(grub_menu_without_trial) && replace_synced $grub/grub.cfg "$menu"
}

# Write next_entry in place: GRUB replays no journal of a file system, and would read where the file was before.
grub_set_next_entry() {
    { grep -v -e '^next_entry=' -e '^#*$' $grub/grubenv; echo "next_entry=$1"; printf %1024s '' | tr ' ' '#'; } |
        head -c 1024 | dd of=$grub/grubenv bs=1024 iflag=fullblock conv=notrunc,fsync status=none
}

grub_menu_without_trial() { sed "/^menuentry $trial /,/^}/d" $grub/grub.cfg; }

# Print what is between the braces of the first entry that boots system $1.
grub_commands_for() {
    sed -n "/^menuentry /,/^}/{ /^menuentry /{h;d}; /^}/!{H;d}; x; \\|init=$1/init[[:space:]]|{s/[^\n]*\n//p;q} }" \
        $grub/grub.cfg
}

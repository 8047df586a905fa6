# --- the firmware of a Raspberry Pi --------------------------------------------------------------------

firmware=/boot/firmware

# Succeed if its files are there, on a partition that is mounted, and U-Boot does not say that it has booted this machine.
raspberry_pi_may_have_booted() {
    if [ -e $platform/devicetree/base/chosen/u-boot,version ] || [ ! -d $firmware ]; then return 1; fi
    case " $folders " in *" $(readlink -f $firmware) "*) ;; *) return 1 ;; esac
    raspberry_pi_system_in "$firmware/$(raspberry_pi_prefix)" >/dev/null
}

# sets: default doubt
raspberry_pi_default() {
    default=$(raspberry_pi_system_in "$firmware/$(raspberry_pi_prefix)") ||
        doubt="$firmware has no cmdline.txt with a system, where os_prefix in config.txt says"
}

raspberry_pi_prefix() { sed -n 's/^os_prefix=//p' $firmware/config.txt 2>/dev/null; }

# sets: line
raspberry_pi_system_in() {
    line=$(cat "$1/cmdline.txt" 2>/dev/null) && system_of_command_line "$line" && readlink -f "$system"
}

# sets: why
raspberry_pi_boots_once() {
    why="$firmware has no os_prefix in config.txt, or somebody else's tryboot.txt, or the firmware is too old for that"
    [ -e $platform/devicetree/base/chosen/bootloader/tryboot ] && [ -n "$(raspberry_pi_prefix)" ] &&
        [ ! -e $firmware/autoboot.txt ] && { [ ! -e $firmware/tryboot.txt ] || raspberry_pi_has_trial; }
}

# sets: entry folder
raspberry_pi_add_trial() {
    # shellcheck disable=SC2044  # a list: they are named after generations
    for entry in $(find "$(dirname "$firmware/$(raspberry_pi_prefix)")" -mindepth 2 -maxdepth 2 -name cmdline.txt); do
        folder=${entry%/*}
        [ "$(raspberry_pi_system_in "$folder")" = "$new" ] || continue
        printf '%s\n' "linux $folder/kernel.img" "initrd $folder/initrd" | names_files_of_new || continue
        replace_synced "$folder/$trial.txt" "$(cat "$entry") $reset_parameters" &&
            replace_synced $firmware/tryboot.txt "$(
                sed "s|^os_prefix=.*|os_prefix=${folder#"$firmware"/}/|" $firmware/config.txt
                printf '\n[all]\ncmdline=%s' $trial.txt
            )"
        return
    done
    return 1
}

raspberry_pi_choose_trial() { raspberry_pi_has_trial; }         # `rebooting` chooses it, by an argument
raspberry_pi_has_trial() { grep -qsx cmdline=$trial.txt $firmware/tryboot.txt; }

raspberry_pi_remove_trial() {
    ! raspberry_pi_has_trial || rm -f $firmware/tryboot.txt
    ! find $firmware -name $trial.txt -delete 2>/dev/null || sync -f $firmware
}

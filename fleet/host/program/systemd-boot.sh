# --- systemd-boot --------------------------------------------------------------------------------------

efi=/sys/firmware/efi/efivars
loader_guid=4a67b082-0a4c-41cf-b6c7-440b29bb8c4f        # https://systemd.io/BOOT_LOADER_INTERFACE

# sets: entry
systemd_boot_default() { entry=$(default_entry) && system_of_entry "$entry"; }

# Print the file of the entry that boots by default: what an EFI variable names, or else loader.conf.
# sets: folder preferred default key value pattern
default_entry() {
    for folder in $(boot_folders); do
        [ -e "$folder/loader/loader.conf" ] || continue
        preferred='' default=''
        while read -r key value; do
            case $key in preferred) preferred=$value ;; default) default=$value ;; esac
        done <"$folder/loader/loader.conf"
        for pattern in "$(efi_default_entry)" "${preferred:-$default}"; do
            # shellcheck disable=SC2046  # a list
            set -- $(matching_entries "${pattern%.conf}")
            [ $# -eq 0 ] || break
        done
        [ $# -eq 1 ] || return          # several match: which one is first is the boot loader's secret
        case $1 in *+0.conf | *+0-*.conf) return 1 ;; esac      # out of tries: the boot loader avoids it
        echo "$1"
        return
    done
    return 1
}

# Print the system that entry $1 boots.
# sets: key value
system_of_entry() {
    while read -r key value; do
        if [ "$key" = options ] && system_of_command_line "$value"; then return; fi
    done <"$1"
    return 1
}

# Print entry $1, whose files are named as Linux names them.
files_of_entry() { sed "s|[[:space:]]/| ${1%/loader/entries/*}/|" "$1"; }

# Print the entries whose ids match pattern $1. The name of a file may have a counter too: ID+3.conf. They may be on another
# partition than loader.conf.
matching_entries() {
    for folder in $(boot_folders); do
        find "$folder/loader/entries" -maxdepth 1 \( -iname "$1.conf" -o -iname "$1+*.conf" \) 2>/dev/null
    done | sort -u
}

# Print what `bootctl set-default` chose: it beats loader.conf where it names an entry.
# sets: chosen
efi_default_entry() {
    chosen=$(efi_variable LoaderEntryDefault)
    if [ "$chosen" = @saved ]; then efi_variable LoaderEntryLastBooted; else echo "$chosen"; fi
}

# Print a variable of the boot loader interface, which has four bytes of attributes and then UTF-16; in lower case, since
# ids are compared without.
efi_variable() {
    get "$efi/$1-$loader_guid" | tail -c +5 |   # of a pipe: the kernel lets nobody seek in a variable
        tr -d '\000' | tr '[:upper:]' '[:lower:]'
}

# sets: why
systemd_boot_boots_once() {
    why="systemd-boot has left no EFI variables"
    [ -e $efi/LoaderInfo-$loader_guid ]
}

# sets: entry
systemd_boot_add_trial() {
    for entry in $(matching_entries '*'); do
        if [ "${entry##*/}" = $trial.conf ] || [ "$(system_of_entry "$entry")" != "$new" ]; then continue; fi
        files_of_entry "$entry" | names_files_of_new || continue
        replace_synced "${entry%/*}/$trial.conf" "$(sed "s|^options.*|& $reset_parameters|" "$entry")"
        return
    done
    return 1
}

systemd_boot_choose_trial() {
    bootctl set-oneshot $trial.conf
    efi_variable LoaderEntryOneShot | grep -qF $trial.conf
}

# sets: entry
systemd_boot_remove_trial() {
    [ ! -e $efi/LoaderInfo-$loader_guid ] || bootctl set-oneshot ""
    for entry in $(matching_entries $trial); do rm -f "$entry" && sync -f "${entry%/*}"; done
}

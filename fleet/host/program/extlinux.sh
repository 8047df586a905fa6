# --- extlinux ------------------------------------------------------------------------------------------

# sets: default doubt conf wanted label key value
extlinux_default() {
    find_boot_files extlinux/extlinux.conf
    # shellcheck disable=SC2086  # a list: with mirroredBoots there are several, which are written together
    find_newest $files
    conf=$newest
    wanted='' label=''
    while read -r key value || [ -n "$key" ]; do
        case $key in
            DEFAULT) wanted=$value ;;
            LABEL) label=$value ;;
            APPEND) if [ "$label" = "$wanted" ] && system_of_command_line "$value"; then default=$system; return; fi ;;
        esac
    done 2>/dev/null <"$conf"
    default='' doubt="$conf names no system at its default label '$wanted'"
}

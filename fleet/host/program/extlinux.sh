# --- extlinux ------------------------------------------------------------------------------------------

# sets: default doubt conf wanted label key value
extlinux_default() {
    # shellcheck disable=SC2046  # a list: with mirroredBoots there are several, which are written together
    conf=$(newest_of $(files_in_folders extlinux/extlinux.conf))
    wanted='' label=''
    while read -r key value; do
        case $key in
            DEFAULT) wanted=$value ;;
            LABEL) label=$value ;;
            APPEND) if [ "$label" = "$wanted" ] && default=$(system_of_command_line "$value"); then return; fi ;;
        esac
    done <<EOF
$(get "$conf")
EOF
    default='' doubt="$conf names no system at its default label '$wanted'"
}

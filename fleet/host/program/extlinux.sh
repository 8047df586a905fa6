# --- extlinux ------------------------------------------------------------------------------------------

# sets: wanted label key value
extlinux_default() {
    wanted='' label=''
    while read -r key value; do
        case $key in
            DEFAULT) wanted=$value ;;
            LABEL) label=$value ;;
            APPEND) if [ "$label" = "$wanted" ] && system_of_command_line "$value"; then return; fi ;;
        esac
    done 2>/dev/null </boot/extlinux/extlinux.conf
    return 1
}

# Completion of fleet for bash 4.4 and later. `fleet completion install bash` writes this file.
#
# Bash splits words at @, : and =, which are within our words, so fleet gets the line itself and the part of it that bash
# would replace. It answers with a line for each possibility: its type, a comma, and what comes in place of that part.
# Nothing is expanded here: names come from files.
_fleet_completion() {
    local type value
    COMPREPLY=()
    while IFS=',' read -r type value; do
        case $type in
            plain) COMPREPLY+=("$value") ;;
            file) compopt -o default ;;
            dir) compopt -o dirnames ;;
        esac
    done < <(_FLEET_COMPLETE=bash_complete FLEET_LINE=${COMP_LINE:0:COMP_POINT} FLEET_PART=$2 "$1" 2>/dev/null)
}
complete -o nosort -F _fleet_completion fleet

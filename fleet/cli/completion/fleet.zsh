#compdef fleet
# Completion of fleet for zsh. `fleet completion install zsh` writes this file as _fleet, into a folder of fpath.
#
# fleet answers with three lines for each possibility: its type, the word, and what it is, or "_".
_fleet() {
    local -a answer words_alone words_described
    local type word what
    answer=("${(@f)$(_FLEET_COMPLETE=zsh_complete COMP_WORDS="${words[*]}" COMP_CWORD=$((CURRENT - 1)) "${words[1]}" 2>/dev/null)}")
    for type word what in "${answer[@]}"; do
        case $type in
            plain) if [[ $what == _ ]]; then words_alone+=("$word"); else words_described+=("$word:$what"); fi ;;
            file) _path_files ;;
            dir) _path_files -/ ;;
        esac
    done
    if (( $#words_described )); then _describe -V unsorted words_described -U; fi
    if (( $#words_alone )); then compadd -U -V unsorted -a words_alone; fi
}
# The first call finds this file as the function; from then on the function above is there in its place.
if [[ ${funcstack[1]} == _fleet ]]; then _fleet "$@"; else compdef _fleet fleet; fi

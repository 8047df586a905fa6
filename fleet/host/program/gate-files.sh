# --- the gate: what a system says of it -------------------------------------------------------------------

# Read the gate of system $1. Fail, and let $why say so, where it has none that this program can read.
# sets: why own_fleet own_name host_keys login login_id login_group required touch content_keys entry key value
read_gate() {
    why="$1 has no gate"
    [ -f "$1/$gate_files/config" ] || return
    own_fleet='' own_name='' host_keys='' login='' required='' touch='' content_keys='' entry=''
    while read -r key value; do
        case $key in
            fleet-gate) [ "$value" = v1 ] || break ;;
            fleet) own_fleet=$value ;;
            host) own_name=$value ;;
            user) login=$value ;;
            required) required=$value ;;
            touch) touch=$value ;;
            program) ;;                 # with another one it is another gate
            entry) entry=$value ;;
            hostkey) host_keys="$host_keys $value" ;;
            content) content_keys="$content_keys$value " ;;
            *) why="the gate of $1 says '$key', which this program does not know: deploy a newer fleet there first"; return 1 ;;
        esac
    done <"$1/$gate_files/config"
    why="the gate of $1 is not as the module writes it"
    is_name "$own_fleet" && is_name "$own_name" && is_name "$login" && is_count "$required" && [ "$required" -gt 0 ] &&
        [ -n "$host_keys" ] && [ -f "$1/$gate_files/allowed_signers" ] && login_id=$(id -u "$login") && login_group=$(id -g "$login") &&
        [ "$login_id" -ne 0 ]
} 2>/dev/null

# Run check $2 of the gate in folder $1, as root.
ask_own_check() {
    [ -f "$1/checks/$2" ] || { echo "there is no check '$2' in services.fleet.gate.checks of this system" >&2; return 70; }
    with_timeout 60 sh "$1/checks/$2" </dev/null
}

# Succeed if what the new system wants to be checked is so: whoever may leave a word cannot keep one that is sick.
# sets: check said
own_checks_pass() {
    set +f
    set -- "$new/$gate_files"/checks/*
    set -f
    for check; do
        [ -f "$check" ] || continue
        said=$(ask_own_check "$new/$gate_files" "${check##*/}" 2>&1) ||
            { blame found "own check ${check##*/} failed: $(printf '%s\n' "$said" | tail -n 1 | cut -c -200)"; return 1; }
    done
}

# Succeed if the own check that failed fails with OLD too.
own_check_fails_too() {
    set -- "$(get reason)"
    set -- "${1#own check }"
    [ -f "$old/$gate_files/checks/${1%% failed*}" ] && ! ask_own_check "$old/$gate_files" "${1%% failed*}" >/dev/null 2>&1
}

# A way back without a signature is gone once, until something signed is kept.
note_way_back() {
    case $(get admitted) in
        unsigned) true >$record/went-back ;;
        signed) rm -f $record/went-back ;;
    esac
}

# Tell which gate the running system has and which one that before it, where it has one.
answer_gate() {
    [ -d $gate ] || return 0
    answer gate "$(gate_of /run/current-system)"
    answer gate_previous "$(gate_of $roots/previous)"
}

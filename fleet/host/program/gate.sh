# --- the gate: a login that may ask for this, and for nothing else ---------------------------------------
#
# services.fleet.gate lets one user's keys run `gate LINE` as root, where LINE is what they asked sshd to run. Whoever that is may
# have stolen the key. So a line is printable ASCII: the numbers of the protocols that the caller speaks, a verb, and its words. A
# word has %20 for a space and %25 for a percent sign, and is % where it is empty. Each verb says what its words look like; what
# does not match is used for nothing. What changes the system has to be signed. What only reads, or brings store paths, is
# done as that user, whom Nix's daemon trusts with nothing.
#
# $gate_files of a system is what its closure says about its gate: config, allowed_signers, checks, and the scripts that are
# not a part of this program. A system without it has no gate.

gate_files=etc/fleet/gate
gate=/run/current-system/$gate_files
gate_protocols="1"                      # that we speak, the newest first, and the one before it
most_input=8388608                      # bytes that a call may bring
most_line=8192
lair=/run/fleet-gate                    # the only folder that its user may write

# Do what line $1 asks for.
# sets: LC_ALL SUDO_USER spoken number verb words word
gate() {
    export LC_ALL=C
    read_gate /run/current-system || refuse gate "$why"
    SUDO_USER=$login
    case $1 in *[!\ -~]*) refuse usage "the call is not all printable ASCII" ;; esac
    [ ${#1} -le $most_line ] || refuse usage "the call has more than $most_line characters"
    # shellcheck disable=SC2086  # words
    set -- $1
    case $#:${1-} in
        [01]:* | *:*[!0-9,]*)
            refuse gate "this login runs fleet's gate, and nothing else: no shell, no files, no forwarding but to checks. In \
fleet.toml this host has gate = true"
            ;;
    esac
    spoken=
    for number in $gate_protocols; do case ,$1, in *,"$number",*) spoken=${spoken:-$number} ;; esac; done
    [ -n "$spoken" ] || refuse protocol "this gate speaks protocol $gate_protocols, and the call was '$1': use a fleet that speaks it too"
    verb=$2
    shift 2
    words=$#
    for word; do
        case $word in
            %) word= ;;
            *%*) word=$(printf '%s\n' "$word" | sed 's/%20/ /g; s/%25/%/g') ;;
        esac
        set -- "$@" "$word"
    done
    shift "$words"
    if ! takes "$@"; then
        refuse gate "the gate does not do '$verb' with these $words words: what fleet does on this host is a verb of the gate, and \
nothing else runs"
    fi
    obey "$@"
}

# Succeed if the words are those that $verb takes.
takes() {
    case $verb:$# in
        facts:0 | busy:0 | generations:0 | verify:0 | gate:0 | true:0 | gpu:0 | gates:0 | boot-state:0 | drift:0 | mesh-key:0) ;;
        missing:0 | substitutable:0 | contents:0 | nix-configuration:0 | dry-activate:0) ;;
        begin:[01]) [ "${1-watch}" = watch ] ;;
        root:3) is_word "$1" && is_store_path "$2" ;;
        stage:2 | specialisation:2 | build:2) is_store_path "$2" && { is_word "$1" || is_store_path "$1"; } ;;
        unroot:1 | acquit:1 | show:1 | attach:1 | fetch:1 | daemon:1 | serve:1 | receive:1 | end-idle:1) is_word "$1" ;;
        look:[12]) is_word "$1" && { [ -z "${2-}" ] || is_count "$2"; } ;;
        queue:5) is_word "$1" && is_count "$2" ;;
        watch:[23]) is_word "$1" && is_word "$2" && is_cursor "${3-}" ;;
        word:2) is_word "$1" && is_verdict "$2" ;;
        word:[345]) is_word "$1" && is_verdict "$2" && [ "$3" = wait ] && is_cursor "${4-}" && { [ -z "${5-}" ] || is_count "$5"; } ;;
        garbage:1 | collect:1) is_count "$1" ;;
        prune:2) is_count "$1" && case $2 in *[!0-9,-]*) return 1 ;; esac ;;
        history:[01]) [ $# -eq 0 ] || is_serial "$1" ;;
        withdraw:5) is_word "$1" && is_serial "$2" && is_word "$5" ;;
        system:1 | requisites:1 | diff:1) is_store_path "$1" ;;
        texts:2) is_store_path "$1" && is_count "$2" ;;
        check:1) is_name "$1" ;;
        unit:1) is_unit "$1" ;;
        logs:[34]) is_unit "$1" && { [ "$2" = all ] || is_count "$2"; } && is_time "$3" && [ "${4:-follow}" = follow ] ;;
        evidence:*) [ $# -ge 3 ] && is_word "$1" && is_count "$2" && is_count "$3" && { shift 3; are_units "$@"; } ;;
        bundle:3) case $1 in df | journal | switch | units) is_word "$2" && is_count "$3" ;; *) return 1 ;; esac ;;
        reboot:2) is_store_path "$2" && is_word "${1% *}" && is_count "${1#* }" ;;
        drift-store:*) is_count "${1-}" && [ $# -le 200 ] && { shift; are_store_paths "$@"; } ;;
        *) return 1 ;;
    esac
}

is_unit() { case $1 in '' | -* | *[!0-9A-Za-z:_.\\@*?-]*) return 1 ;; *) [ ${#1} -le 255 ] ;; esac; }
is_time() { case $1 in *[!0-9A-Za-z:\ .+-]*) return 1 ;; esac; }
is_cursor() { case $1 in -* | *[!0-9A-Za-z\;=]*) return 1 ;; esac; }
is_verdict() { case $1 in confirm | abandon\ found\ * | abandon\ silent\ *) ;; *) return 1 ;; esac; }
# sets: word
are_units() { for word; do is_unit "$word" || return; done; }
# sets: word
are_store_paths() { for word; do is_store_path "$word" || return; done; }

# Do what $verb asks for with these words, which match.
obey() {
    case $verb in
        root) main $format root "$1" "$2" "$program" ;;
        begin) close_folders; open_gate && begin_admitted "$@" ;;
        dry-activate) open_gate && dry_activate ;;
        gate) report_gate ;;
        true) ;;
        missing) sent_paths | as_login xargs -r nix-store --check-validity --print-invalid ;;
        substitutable)
            sent_paths | as_login xargs -r nix-store --realise --dry-run --option download-attempts 1 --option connect-timeout 5
            ;;
        contents) compare_contents ;;
        requisites) as_login nix-store --query --requisites "$1" ;;
        nix-configuration) as_login sh -c "$(script nix-configuration)" ;;
        fetch) sent_paths | bringing "$1" xargs -r nix-store --realise --keep-going ;;
        daemon) bringing "$1" nix-daemon --stdio ;;
        serve) bringing "$1" nix-store --serve --write ;;
        receive) bringing "$1" sh -c "$(script receive)" sh $lair ;;
        build) bringing "$1" nix-store --realise "$2" ;;
        end-idle) sh -c "$(script end-idle)" sh "FLEET_PUSH=$1" "$login_id" ;;
        system | specialisation | gpu | gates | boot-state) sh -c "$(script "$verb")" sh "$@" ;;
        diff) as_login sh -c "$(script diff)" sh "$@" ;;
        texts) head -c $most_input | grep -vE '(^|/)\.\.(/|$)|^[/-]' | as_login sh -c "$(script texts)" sh "$@" ;;
        check) ask_own_check "$gate" "$1" ;;
        mesh-key) as_login head -c 200 /var/lib/fleet-mesh/public ;;         # whoever it is may read that one
        unit) systemctl show --property=LoadState,ActiveState,SubState -- "$1" ;;
        logs)
            sh -c "$(script end-with-us)" sh journalctl --quiet --no-pager --output=short-iso --unit="$1" --lines="$2" \
                ${3:+"--since=$3"} ${4:+--follow}
            ;;
        collect) sh -c "$(script end-with-us)" sh "$program" $format collect "$1" ;;
        evidence) sh -c "$(script evidence)" sh "$@" ;;
        bundle) sh -c "$(script "$1")" sh "$2" "$3" ;;
        reboot) sh -c "$(script reboot)" sh "$@" ;;
        drift)
            env home_script="$(script home)" home_places="$(script home-places)" system_places="$(script system-places)" \
                nice -n 10 sh -c "$(script drift)"
            ;;
        drift-store) nice -n 10 sh -c "$(script drift-store)" sh "$@" ;;
        *) main $format "$verb" "$@" ;;
    esac
}

script() { cat "$gate/scripts/$1"; }

# Pass on the store paths that are sent. A line without an end would otherwise be held in memory, by root.
sent_paths() { head -c $most_input | store_paths; }

# Run a command as the user of the gate, who may read what everybody may.
as_login() (
    go_to_lair
    umask 022
    exec setpriv --reuid="$login_id" --regid="$login_group" --clear-groups --no-new-privs --inh-caps=-all \
        env -i HOME=$lair LC_ALL=C PATH="$PATH" NIX_REMOTE=daemon "$@"
)

# The same for a command that brings store paths in run $1, which leaves a mark of that on the disk.
bringing() (
    go_to_lair
    umask 022
    run=$1
    shift
    exec sh -c "$(script leave-mark)" "$run" \
        setpriv --reuid="$login_id" --regid="$login_group" --clear-groups --no-new-privs --inh-caps=-all \
        env -i HOME=$lair LC_ALL=C PATH="$PATH" NIX_REMOTE=daemon FLEET_PUSH="$run" "$@"
)

# /run is root's, so nobody else has made it.
go_to_lair() {
    { { [ -d $lair ] || mkdir -m 700 $lair; } && chown "$login_id:$login_group" $lair && cd $lair; } || refuse full "cannot write $lair"
}

# --- small words ---------------------------------------------------------------------------------------

# Answer that $1 is $2, on one line whatever is in it: processes, sessions and files are named by whoever they belong to.
answer() {
    case $2 in *[[:cntrl:]]*) set -- "$1" "$(printf '%s' "$2" | tr '\001-\037\177' '[ *]')" ;; esac
    printf '%s=%s\n' "$1" "$2"
}
refuse() { answer refused "$1"; answer message "$2"; exit 0; }

# What callers name becomes part of paths, as root. So a run is a word, a name hides and ends nothing, and a store path has nothing above or below it.
is_word() { case $1 in '' | *[!0-9A-Za-z-]*) return 1 ;; *) [ ${#1} -le 128 ] ;; esac }
is_name() { case $1 in '' | [.-]* | *[!0-9A-Za-z._-]*) return 1 ;; esac; }
# A number, as every shell calculates with it: 08 ends a shell, and whoever sent it had a keeper that starts anew for ever.
is_count() { case $1 in '' | *[!0-9]* | 0?* | ???????????*) return 1 ;; esac; }
is_store_path() { case ${1#/nix/store/} in "$1" | '' | .* | *[!0-9A-Za-z+._?=-]*) return 1 ;; esac }

# Go to the directory of a transaction: of run $2, or of whichever is there. Whoever reads or writes one does so first. It
# may be renamed then, but not exchanged: who is late by a whole run reaches no other.
# sets: run
enter() { cd "$1" 2>/dev/null && { read_line run; run=$text; } && [ "${run:-none}" = "${2:-$run}" ]; }
# Print file $1, which may not be there. Like most of these it starts no other program: hosts are slow, and this is called often.
# sets: text
get() { while IFS= read -r text || [ -n "$text" ]; do printf '%s\n' "$text"; done 2>/dev/null <"$1"; }
# Read the first line of file $1, which may not be there. No other program runs for it.
# sets: text
read_line() { text='' && IFS= read -r text 2>/dev/null <"$1"; }
# Succeed if file $1 has line $2.
# sets: text
has_line() {
    while IFS= read -r text; do [ "$text" != "$2" ] || return 0; done 2>/dev/null <"$1"
    return 1
}
# Let file $1 say $2, for a reader at any moment.
put() { printf '%s\n' "$2" >".$1.$$" && mv -f ".$1.$$" "$1"; }
# The same in a draft, which nobody reads yet.
put_new() { printf '%s\n' "$2" >"$1"; }
# The same in the record, so that a power cut leaves what it said or what it says.
keep_on_record() { printf '%s\n' "$2" >"$record/.$1" && sync "$record/.$1" && mv -f "$record/.$1" "$record/$1" && sync "$record"; }

# Let $new and $old be the systems of the transaction that we are in.
# sets: new old
read_systems() {
    read_line new
    new=$text
    read_line old
    old=$text
}

# Succeed if root runs this. In /proc the second number is that of the effective user.
# sets: key text
is_root() {
    while read -r key _ text _; do [ "$key" != Uid: ] || break; done </proc/self/status
    [ "$text" = 0 ]
}

# Print the id of this boot and, since a container has that of its host, when PID 1 started.
boot_id() {
    get /proc/sys/kernel/random/boot_id
    read_line /proc/1/stat
    # shellcheck disable=SC2086  # words
    set -- $text
    shift 21
    echo "$1"
}
# Let $now be the seconds since the boot. Time is this everywhere: no clock matters.
# sets: now
clock() { read -r now _ </proc/uptime && now=${now%.*}; }
# Succeed if the deadline passed $1 seconds ago, or at all. Where there is none, it has passed.
past_deadline() { clock; read_line deadline; ! [ $((now - ${1:-0})) -lt "$text" ] 2>/dev/null; }
# Let the deadline be as many seconds from now as file $1 says.
put_deadline() { clock; read_line "$1"; put deadline $((now + ${text:-0})); }
# Run a command that writes what others may read.
openly() ( umask 022 && exec "$@" )
with_timeout() ( cd / && umask 022 && exec timeout -k 5 "$@" )      # seconds, command

# Go to a folder of our own, which is gone when we are.
# sets: own_folder
make_folder() {
    { mkdir -p /run/fleet && own_folder=$(mktemp -d /run/fleet/.own.XXXXXX) && cd "$own_folder"; } || refuse full "cannot write /run/fleet"
    trap 'rm -rf "$own_folder"' EXIT
    trap 'exit 143' HUP INT PIPE TERM
}

# Let nobody but root into our folders: older programs have left them open.
close_folders() { find /run/fleet $record $roots -maxdepth 0 -perm /077 -exec chmod -R go= '{}' + 2>/dev/null; }

# Repeat a command until it succeeds; fail when $1 seconds have passed.
# sets: limit
wait_for() {
    clock
    limit=$((now + $1))
    shift
    until "$@"; do
        clock
        [ "$now" -lt $limit ] || return 1
        sleep 0.1
    done
}

retry() { wait_for 10 "$@"; }           # PID 1 refuses calls while it re-executes

# Print the numbers of all generations.
# sets: link number
generation_numbers() {
    set +f
    for link in "$profile"-*-link; do
        number=${link#"$profile-"} number=${number%-link}
        case $number in '' | *[!0-9]*) ;; *) echo "$number" ;; esac
    done
    set -f
}
# Print the highest of them.
# sets: highest number
newest_generation() {
    highest=
    for number in $(generation_numbers); do [ "$number" -le "${highest:-0}" ] || highest=$number; done
    echo "$highest"
}
set_root() { ln -sfn "$2" "$roots/.$1" && mv -Tf "$roots/.$1" "$roots/$1"; }

# Let unit $1 run the other arguments, unless it does already.
# sets: unit
start_unit() {
    case $(systemctl is-active "$1" 2>/dev/null) in
        active | activating | reloading) return 0 ;;
        inactive | failed) ;;
        *) return 1 ;;                  # no answer, or it is ending
    esac
    unit=$1
    shift
    systemd-run --quiet --collect --unit="$unit" --setenv=PATH="$(get path)" -p TimeoutStopSec=5 "$@"
}

is_inactive() { case $(systemctl is-active "$1" 2>/dev/null) in inactive | failed) ;; *) false ;; esac; }
stop_unit() { systemctl stop "$1" 2>/dev/null; is_inactive "$1"; }

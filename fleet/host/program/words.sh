# --- small words ---------------------------------------------------------------------------------------

# Answer that $1 is $2, on one line whatever is in it: processes, sessions and files are named by whoever they belong to.
answer() {
    case $2 in *[[:cntrl:]]*) set -- "$1" "$(printf '%s' "$2" | tr '\001-\037\177' '[ *]')" ;; esac
    printf '%s=%s\n' "$1" "$2"
}
refuse() { answer refused "$1"; answer message "$2"; exit 0; }

# What callers name becomes part of paths, as root. So a run is a word, and a store path has nothing above or below it.
is_word() { case $1 in '' | *[!0-9A-Za-z-]*) return 1 ;; esac }
is_store_path() { case ${1#/nix/store/} in "$1" | '' | .* | *[!0-9A-Za-z+._?=-]*) return 1 ;; esac }

# Go to the directory of a transaction: of run $2, or of whichever is there. Whoever reads or writes one does so first. It
# may be renamed then, but not exchanged: who is late by a whole run reaches no other.
# sets: run
enter() { cd "$1" 2>/dev/null && run=$(get run) && [ "${run:-none}" = "${2:-$run}" ]; }
get() { cat "$1" 2>/dev/null; }
# Read the first line of file $1, which may not be there. No other program runs for it.
# sets: text
read_line() { text='' && IFS= read -r text 2>/dev/null <"$1"; }
put() { printf '%s\n' "$2" >".$1.$$" && mv -f ".$1.$$" "$1"; }

boot_id() { cat /proc/sys/kernel/random/boot_id; cut -d ' ' -f 22 /proc/1/stat; }       # in a container PID 1's start
# sets: up
now() { read -r up _ </proc/uptime; echo "${up%.*}"; }
# Succeed if the deadline passed $1 seconds ago, or at all. Where there is none, it has passed.
past_deadline() { ! [ $(($(now) - ${1:-0})) -lt "$(get deadline)" ] 2>/dev/null; }
# Run a command that writes what others may read.
openly() ( umask 022 && exec "$@" )
with_timeout() ( cd / && openly timeout -k 5 "$@" )     # seconds, command

# Let nobody but root into our folders: older programs have left them open.
close_folders() { find /run/fleet $record $roots -maxdepth 0 -perm /077 -exec chmod -R go= '{}' + 2>/dev/null; }

# Repeat a command until it succeeds; fail when $1 seconds have passed.
# sets: limit
wait_for() {
    limit=$(($(now) + $1))
    shift
    until "$@"; do
        [ "$(now)" -lt $limit ] || return 1
        sleep 0.1
    done
}

retry() { wait_for 10 "$@"; }           # PID 1 refuses calls while it re-executes

running_system() { readlink -f /run/current-system; }
profile_system() { readlink -f $profile; }
newest_generation() { find $profiles -maxdepth 1 -name 'system-*-link' | sort -V | tail -n 1 | tr -dc '0-9'; }
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

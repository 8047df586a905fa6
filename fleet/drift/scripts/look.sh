# Tells what is on a host beside what its system declares: lines of fields with tabs between them. It reads, and changes
# nothing: no file, no database of Nix, no unit.
#
# It comes on stdin, behind $home_script, $home_places and $system_places. Each part ends with a line `done NAME` unless it was
# cut short: by its time, its bytes or its lines. Names of files are quoted as C does it, whatever they are. What users may
# have put into their homes is looked at as these users, so that no link leads root anywhere.
# shellcheck disable=SC2154  # what stands before it
most_lines=10000
most_bytes=1200000
most_sockets=2000
tab='	'
newline='
'
format='%f\t%u\t%s\t%Y\t%d\t%N\n'

main() {
    set -fu
    PATH=$PATH:/run/current-system/sw/bin:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin
    export PATH LC_ALL=C QUOTING_STYLE=c
    cd /                                # users cannot come back to where root was
    system=$(readlink -f /run/current-system)
    the_system
    declared | bounded
    files | bounded
    secrets | bounded
    units | bounded
    people | bounded
    packages | bounded
    listeners | bounded
    homes | bounded
    actors | bounded
    echo end
}

bounded() {
    head -n $most_lines | head -c $most_bytes
    echo
}

# Run a command for $2 seconds at most, and tell that part $1 is done unless it was cut short.
timed() {
    part=$1 seconds=$2
    shift 2
    timeout -k 2 "$seconds" "$@" 2>/dev/null
    [ $? -ge 124 ] || printf 'done\t%s\n' "$part"
}

# NixOS is a system that says so itself: it declares all of /etc. Where another system is below, /etc/os-release is of that one.
the_system() {
    printf 'system\t%s\t%s\n' "$system" "$(stat -c %Y /run/current-system)"
    ! grep -qswE '^ID(_LIKE)?=.*nixos' "$system/etc/os-release" || printf 'nixos\n'
    read -r uptime _ </proc/uptime
    printf 'clock\t%s\t%s\n' "$(date +%s)" "${uptime%.*}"
}

# Tell which files of the system's own etc are not in /etc as they should be, and which are there as copies; and its units.
#
# Where /etc is an overlay (system.etc.overlay), nothing of that can differ.
declared() {
    find -L "$system/etc/systemd/system/" -maxdepth 1 -name '*.*' -printf 'ours\t%f\n' 2>/dev/null
    if [ ! -d "$system/etc/" ] || is_overlay; then printf 'done\tdeclared\n'; return; fi
    names=$(cd "$system/etc/" && timeout 10 find -L . ! -type d ! -name '*.uid' ! -name '*.gid' -printf '%P\n' | head -n $most_lines)
    { places "$system/etc/"; places /etc | sed p; } | sort | uniq -u | cut -d / -f 2- | sort -u | head -n 1000 |
        while IFS= read -r name; do
            if [ -e "$system/etc/$name.mode" ] && [ -f "/etc/$name" ] && cmp -s "$system/etc/$name" "/etc/$name"; then continue; fi
            case $name in *.mode) continue ;; esac
            printf 'differs\t%s\n' "$name"
        done
    printf '%s\n' "$names" | sed -n 's/\.mode$//p' | while IFS= read -r name; do printf 'copy\t%s\n' "$name"; done
    printf 'done\tdeclared\n'
}

# Print device and inode of each of the names below folder $1, behind all links.
places() ( cd "$1" && printf '%s\n' "$names" | xargs -d "$newline" stat -L -c '%d:%i/%n' -- 2>/dev/null )

is_overlay() { grep -q '^[^ ]* /etc overlay ' /proc/mounts; }

# Tell of each file in /etc that is no link to what the system declares. Those that everybody may read are known by their sum,
# except on NixOS, where none belongs there.
files() {
    etc=/etc
    if is_overlay; then
        etc=$(sed -nE 's#^[^ ]* /etc overlay ([^ ]*,)?upperdir=([^, ]+).*#\2#p' /proc/mounts)
        [ -n "$etc" ] || { printf 'done\tfiles\ndone\tsums\n'; return; }
    fi
    stat --printf "etc\t$format" -- "$etc/."
    timed files 15 find "$etc/" -xdev ! -type d ! -path "$etc/static" ! -lname '/etc/static/*' \
        -exec stat --printf "file\t$format" -- '{}' + | bounded
    if grep -qswE '^ID(_LIKE)?=.*nixos' "$system/etc/os-release"; then printf 'done\tsums\n'; return; fi
    timed sums 15 find "$etc/" -xdev -type f -perm -004 -size -1024k ! -lname '/etc/static/*' -exec sha256sum -- '{}' + |
        sed '/^done/!s/^/sum\t/'
}

# Tell which files are secrets that fleet has brought or is bringing, with the old ones beside them, and which folders have nothing else.
secrets() {
    cat /nix/var/fleet/secrets /run/fleet/open/secret 2>/dev/null | while read -r _ path _; do
        for beside in old new none; do printf 'secret\t%s\n' "${path%/*}/.${path##*/}.fleet-$beside"; done
        while [ -n "$path" ]; do
            printf 'secret\t%s\n' "$path"
            path=${path%/*}
            [ -z "$(find "$path/" -mindepth 1 -maxdepth 1 ! -name '.*.fleet-*' -print 2>/dev/null | sed -n 2p)" ] || break
        done
    done
}

# Tell of units and timetables outside of /etc.
units() {
    timed units 5 find /run/systemd/system /run/systemd/transient /run/systemd/system.control /run/systemd/system.attached \
        /usr/local/lib/systemd/system -xdev ! -type d -exec stat --printf "unit\t$format" -- '{}' +
    timed crontabs 5 find /var/spool/cron /var/cron /var/spool/at /var/spool/atjobs -xdev -type f ! -name '.*' \
        -exec stat --printf "crontab\t$format" -- '{}' +
}

# Tell of accounts, without names of people or passwords; of a password only whether there is one, and since which day.
people() {
    cut -d : -f 1,3,4,6,7 /etc/passwd | sed 's/^/user\t/'
    grep -E ':[^:]+$' /etc/group | cut -d : -f 1,3,4 | sed 's/^/group\t/'
    sed -nE 's/^([^:]*):[!*][^:]*:([0-9]*):.*/password\t\1\tlocked\t\2/p; s/^([^:]*)::([0-9]*):.*/password\t\1\tnone\t\2/p
        s/^([^:]*):[^:!*][^:]*:([0-9]*):.*/password\t\1\tset\t\2/p' /etc/shadow 2>/dev/null
    # NixOS: the accounts that the system declares, by each of its ways to make them.
    grep -ohsE '/nix/store/[0-9a-z]{32}-(users-groups|userborn)\.json' "$system/activate" \
        "$system/etc/systemd/system/userborn.service" | sort -u | xargs -d "$newline" -r grep -ohsE '"name" ?: ?"[^"]+"' -- |
        sed -nE 's/.*"([^"]+)"$/account\t\1/p'
    sed -nE 's/^u!? +([^ ]+) .*/account\t\1/p' "$system"/etc/sysusers.d/00-nixos.conf 2>/dev/null
    find /etc/fleet/agents/ -maxdepth 1 ! -type d -printf 'agent\t%f\n' 2>/dev/null | head -n 1000
    printf 'done\tpeople\n'
}

# Tell what Debian's package manager has installed, and which files in /etc belong to that.
packages() {
    if ! command -v dpkg-query >/dev/null; then printf 'done\tpackages\n'; return; fi
    # shellcheck disable=SC2016  # dpkg-query expands it
    timed packages 10 dpkg-query -W -f 'package\t${Package}\t${db-fsys:Last-Modified}\n${Conffiles}\n' |
        sed -E 's#^ (/etc/[^ ]*) .*#conffile\t\1#; /^$/d'
}

# Tell who listens: sockets as the kernel has them, and the processes that hold them.
listeners() {
    printf 'dynamic\t%s\n' "$(cat /proc/sys/net/ipv4/ip_local_port_range 2>/dev/null)"
    sockets=$(for table in tcp tcp6 udp udp6; do
        case $table in tcp*) state=0A ;; *) state=07 ;; esac
        sed -nE "s/^ *[0-9]+: ([0-9A-F]+):([0-9A-F]{4}) [0-9A-F]+:[0-9A-F]+ $state ([^ ]+ +){3}([0-9]+) +[0-9]+ ([0-9]+) .*/\5 $table \1 \2 \4/p" \
            "/proc/net/$table"
    done 2>/dev/null | tr ' ' '\t' | head -n $most_sockets)
    printf '%s\n' "$sockets" | sed '/./s/^/listener\t/'
    wanted=$(printf '%s\n' "$sockets" | cut -f 1 | sed 's/.*/socket:[&]/')
    set +f
    held=$(timeout 10 find /proc/[0-9]*/fd -lname 'socket:*' -printf '%l %h\n' 2>/dev/null | grep -F "$wanted" | sort -u | head -n $((2 * most_sockets)))
    set -f
    [ -z "$held" ] || printf '%s\n' "$held" | while IFS=' ' read -r socket folder; do holder "$socket" "${folder%/fd}"; done
    case $newline$held in *" /proc/1/fd"*) socket_units ;; esac
    # Somebody may open very many, so that one of them is not seen: then nobody says that all were looked at.
    [ "$(printf '%s\n' "$sockets" | wc -l)" -ge $most_sockets ] || [ "$(printf '%s\n' "$held" | wc -l)" -ge $((2 * most_sockets)) ] ||
        printf 'done\tlisteners\n'
}

# Tell of the process in folder $2 of /proc, which holds socket $1: its cgroup, its name, and when it began, in ticks.
holder() {
    group='' comm='' began=''
    while IFS= read -r line; do
        case $line in 0::* | *:name=systemd:*) group=${line#*:*:} ;; esac
    done 2>/dev/null <"$2/cgroup"
    IFS= read -r comm 2>/dev/null <"$2/comm"
    IFS= read -r line 2>/dev/null <"$2/stat" && began=$(printf '%s\n' "${line##*) }" | cut -d ' ' -f 20)
    printf 'holder\t%s\t%s\t%s\t%s\t%s\n' "${1#socket:}" "${2#/proc/}" "$began" "$group" "$comm"
}

socket_units() {
    timeout 5 systemctl show --all --property=Id --property=Listen '*.socket' 2>/dev/null |
        sed -nE 's/^Id=(.*)/socket\t\1/p; s/^Listen=(.*:)?([0-9]+) .*/port\t\2/p'
}

# Tell what is in the places of tools and programs: of the whole host, and of each user who has a home of his own.
homes() {
    read -r end _ </proc/uptime
    end=$((${end%.*} + 20))
    home root 0 0 / "$system_places" ''
    find_people
    said=$(timeout 10 sshd -T 2>/dev/null | sed -n 's/^authorizedkeysfile //p')
    said=${said:-.ssh/authorized_keys .ssh/authorized_keys2}
    while IFS=: read -r name uid gid folder; do
        case $newline$owned$newline in *"${newline}directory:$uid:$folder$newline"*) ;; *) continue ;; esac
        read -r now _ </proc/uptime
        [ "${now%.*}" -lt $end ] || return
        home "$name" "$uid" "$gid" "$folder" "$home_places" "$(key_files)"
    done <<END
$accounts
END
    printf 'done\thomes\n'
}

# Let $accounts be those who may have a home, and $owned the folders of these that are there and are their own.
find_people() {
    accounts=$(cut -d : -f 1,3,4,6 /etc/passwd | grep -E '^[^:]+:[0-9]+:[0-9]+:/[^:]+$' | head -n 1000)
    owned=$(printf '%s\n' "$accounts" | cut -d : -f 4 | sort -u | xargs -d "$newline" stat -c '%F:%u:%n' -- 2>/dev/null)
}

# Print the files that have the keys of user $name.
key_files() {
    # shellcheck disable=SC2086  # a list
    printf '%s\n' $said | sed "s#%u#$name#g; s#%h#$folder#g; s#%%#%#g; /^none\$/d; s#^[^/]#$folder/&#"
}

# Tell what user $1 with number $2 and group $3 has in folder $4, in the places $5, and the keys in files $6.
home() {
    printf 'home\t%s\t%s\t%s\n' "$1" "$2" "$4"
    timeout -k 1 5 setpriv --reuid="$2" --regid="$3" --clear-groups --no-new-privs env -i PATH="$PATH" LC_ALL=C QUOTING_STYLE=c \
        sh -c "$home_script" sh "$4" "$5" "$6" 2>/dev/null | head -n 2000 | head -c 300000 | sed 's/^/in\t/'
    echo
}

# Tell who has become root lately: by sudo, or by a login as root from elsewhere. Any program may be called sudo or sshd, and say
# what it likes, so that only root is believed of a login, and of sudo only what somebody says of himself: sudo writes as the one who
# has called it. No text of theirs has the quotes of a field.
actors() {
    from=${SSH_CONNECTION-}
    printf 'from\t%s\n' "${from%% *}"
    timeout 5 journalctl --quiet --no-pager --output=json --output-fields=_UID,MESSAGE --lines=400 SYSLOG_IDENTIFIER=sudo + SYSLOG_IDENTIFIER=sshd _UID=0 + SYSLOG_IDENTIFIER=sshd-session _UID=0 2>/dev/null |
        sed -nE 's/^.*"_UID":"([0-9]+)".*$/\1\t&/p' |
        sed -nE 's/^([0-9]+\t).*"__REALTIME_TIMESTAMP":"([0-9]+)[0-9]{6}".*$/\1\2\t&/p' |
        sed -nE 's/^([0-9]+)\t([0-9]+)\t.*"MESSAGE":" *([A-Za-z0-9_][A-Za-z0-9._-]{0,31}) : ([A-Z]+=[^;"]* ; )*USER=root ;.*/sudo\t\2\t\1\t\3/p
            s/^0\t([0-9]+)\t.*"MESSAGE":"Accepted [^ "]+ for root from ([0-9a-fA-F.:]+) .*/ssh\t\1\t0\t\2/p' |
        while IFS="$tab" read -r how at uid who; do
            [ "$how" = ssh ] || [ "$(id -u "$who" 2>/dev/null)" = "$uid" ] || continue
            printf 'actor\t%s\t%s\t%s\n' "$at" "$how" "$who"
        done
    printf 'done\tactors\n'
}

main </dev/null

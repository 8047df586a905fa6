# --- the ways in: what a person needs to log in --------------------------------------------------------
#
# A system whose units are well is of no use where nobody can log in any more. So what a login needs is written down at
# begin, a line for each thing that is so, and OLD is proven only where all of that is so again: the mounts above sshd's
# files, its configuration, host keys, its ports, and the accounts and keys of root and of whoever has logged in. What
# hides the rest, a mount, comes first in the order of letters.

tab='	'
mount_points="/|/bin|/dev|/dev/pts|/etc|/etc/ssh|/home|/nix|/nix/store|/root|/root/.ssh|/run|/usr|/var"
sshd_words="allowgroups|allowusers|authenticationmethods|authorizedkeyscommand|authorizedkeysfile|\
authorizedprincipalsfile|denygroups|denyusers|forcecommand|hostkey|permitrootlogin|port|pubkeyauthentication|\
revokedkeys|strictmodes|trustedusercakeys|usepam"

# Print the ways in that there are now, in order.
# sets: accounts says keys
ways_in() {
    accounts=$(grep -sE "^(root${login:+|$login}):" /etc/passwd)
    says=$(with_timeout 10 sshd -T 2>&1)
    case $says in
        *authorizedkeysfile*) says=$(printf '%s\n' "$says" | sed -nE "s/^($sshd_words) /sshd &/p") ;;
        *' separation directory'*) says=unread ;;       # that of Debian is there while sshd runs
        *) says= ;;
    esac
    keys=$(key_files)
    { mounts; sshd_files; people; } | LC_ALL=C sort -u
}

# Print type and device of what is mounted where. An automount comes and goes by itself: it says nothing.
# sets: places found automounts home
mounts() {
    places=$mount_points
    while IFS=: read -r _ _ _ _ _ home _; do
        case $home in /?*) places="$places|$home|$home/.ssh" ;; esac
    done <<EOF
$accounts
EOF
    found=$(sed -nE "s#^[^ ]+ [^ ]+ [^ ]+ ([^ ]+) ($places) .* - ([^ ]+) ([^ ]+) .*#\2 \3 \4 \1#p" /proc/self/mountinfo)
    automounts=
    case $found in *' autofs '*) automounts=$(printf '%s\n' "$found" | sed -n 's/ autofs .*/|/p' | tr -d '\n') ;; esac
    printf '%s\n' "$found" | grep -vE "^(${automounts}none) " |
        while read -r place type device; do printf '%s\n' "at $place $type" "device $place $device"; done
}

# Print what sshd says of itself, which host keys it has, and on which of its ports somebody listens.
# sets: port
sshd_files() {
    printf '%s\n' "$says"
    of_sshd port 22
    for port in $values; do
        ! grep -qsE "^ *[0-9]+: [0-9A-F]+:$(printf %04X "$port") [0-9A-F:]+ 0A " /proc/net/tcp /proc/net/tcp6 ||
            echo "listens $port"
    done
    of_sshd hostkey /etc/ssh/ssh_host_ed25519_key
    # shellcheck disable=SC2086  # paths have no spaces
    sha256sum $values 2>/dev/null | sed -nE 's/^([0-9a-f]+) +/hostkey \1 /p'
}

# Let $values be what sshd says of $1, or else $2.
# sets: values word value
of_sshd() {
    values=
    while read -r _ word value; do [ "$word" != "$1" ] || values="${values:+$values }$value"; done <<EOF
$says
EOF
    values=${values:-$2}
}

# Print what lets these people in: accounts, keys, and those of the places of the keys where nobody else can write, since
# sshd trusts no others.
people() {
    [ -e /etc/nologin ] || echo "open /etc/nologin"
    sed -nE "s/^(root${login:+|$login}):[^:]*:([^:]*):[^:]*:[^:]*:/user \1:\2:/p" /etc/passwd
    sed -nE "s/^(root${login:+|$login}):([^:]*:){6}([^:]*):.*/until \1:\3/p" /etc/shadow 2>/dev/null
    # shellcheck disable=SC2046,SC2086  # paths have no spaces
    grep -aHsvE -D skip '^[[:space:]]*(#|$)' $(plain_files $keys) /dev/null | head -c 1000000 | sed 's/^/key /'
    printf '%s\n' "$accounts" | while IFS=: read -r _ _ number _ _ home _; do
        # shellcheck disable=SC2086
        find -L "$home" "$home/.ssh" $keys -maxdepth 0 ! -perm /022 '(' -uid 0 -o -uid "$number" ')' -printf 'trusted %p\n'
    done 2>/dev/null
}

# Print those of these that are files, and no larger than keys are: where users may write, there may be a pipe, or a file without end.
plain_files() { [ $# -eq 0 ] || find -L "$@" -maxdepth 0 -type f -size -1024k 2>/dev/null; }

# Print the files that have the keys of these people.
key_files() {
    of_sshd authorizedkeysfile ".ssh/authorized_keys /etc/ssh/authorized_keys.d/%u"
    printf '%s\n' "$accounts" | while IFS=: read -r name _ _ _ _ home _; do
        # shellcheck disable=SC2086  # a list
        printf '%s\n' $values | sed "s#%u#$name#g; s#%h#$home#g; s#%%#%#g; /^none\$/d; s#^[^/]#$home/&#"
    done | sort -u
}

# Print in words a way in that there was at begin and that is not there now; nothing where all are.
# sets: login ways
lost_way_in() {
    [ -e ways ] || return 0
    login=$(get login)
    ways=$(ways_in)
    printf '%s\n' "$ways" | LC_ALL=C comm -3 ways - | while IFS= read -r line; do
        is_lost "$line" || continue
        in_words "${line#"$tab"}"
        break
    done
}

# Succeed if line $1 of the comparison speaks against OLD: it is gone, or is new and in the way.
is_lost() {
    case $1 in
        device\ * | "$tab"device\ *) [ ! -e rebooted ] || return ;;     # a reboot may give other names
        sshd\ *) case $newline$ways$newline in *"${newline}unread$newline"*) return 1 ;; *) return ;; esac ;;
        "$tab"sshd\ *) grep -q '^sshd ' ways; return ;;
        "$tab"at\ *) ;;
        "$tab"* | unread) return 1 ;;
    esac
    case $1 in "$tab"*) ;; *) return 0 ;; esac
    # What OLD mounts itself may have been missing at begin.
    set -- "$(printf '%s\n' "${1#"$tab"}" | cut -d ' ' -f 2)"
    grep -q "^at $1 " ways || ! is_unit_of "$(systemd-escape --path --suffix=mount "$1")" "$old"
}

# Say what has become of the way in $1.
in_words() {
    set -- "${1%% *}" "${1#* }"
    case $1 in
        at | device) echo "what is mounted at ${2%% *} is not what was there at begin" ;;
        sshd) echo "sshd's configuration is not as at begin: ${2%% *}" ;;
        listens) echo "nothing listens on sshd's port $2" ;;
        hostkey) echo "${2#* } is not the host key that it was" ;;
        open) echo "$2 keeps people from logging in" ;;
        user | until) echo "the account ${2%%:*} is not as at begin" ;;
        trusted) echo "$2 is gone, or others can write there, so that sshd does not trust it" ;;
        key) echo "a key is gone from ${2%%:*}" ;;
    esac
}

# Tries to leave the sandbox in which it runs, and tells of each attempt whether the sandbox held: a line `probe`, the name, `held`,
# `open` (declared), `broken` or `unknown`, and what was seen, with tabs between them. The last line is `end`. It fails unless all
# held, and else becomes the command that follows, if there is one. What cannot be tried has not held.
#
# It runs as what is to run in the sandbox does, from $2, the program busybox, with what $1 tells of the host.
facts=$1
box=$2
failed=0
newline='
'

main() {
    set -fu
    export LC_ALL=C
    for tool in stat find grep sed nc nslookup ping arping mount unshare id ls cat dmesg timeout; do
        "$box" --list | "$box" grep -qx "$tool" || told "tool-$tool" unknown "busybox has no $tool, so nothing can be tried with it"
    done
    if [ ! -s "$facts" ]; then told facts unknown 'nobody has told what the host is like'; else
        identity
        namespaces
        interfaces
        reach &
        names &
        sockets
        homes
        folders
        processes
        kernel
        raw
        keys
        credentials
        store
        setuid
        writing
        devices
        shared
        wait
        network_said
    fi
    echo end
    [ $failed = 0 ] || exit 1
    shift 2
    [ $# = 0 ] || exec "$@"
}

b() { "$box" "$@"; }

fact() { b sed -n "s/^$1 //p" "$facts"; }

told() {
    printf 'probe\t%s\t%s\t%s\n' "$1" "$2" "$3"
    case $2 in broken | unknown) failed=1 ;; esac
}

# Tell that probe $1 held, unless $2 has something in it: the trouble. $3 is what was tried.
held_unless() {
    if [ -z "$2" ]; then told "$1" held "$3"; else told "$1" broken "$(one_line "$2")"; fi
}

one_line() { printf '%s' "$1" | b tr '\n\t' '  ' | b head -c 300; }

identity() {
    status=$(b cat /proc/self/status 2>/dev/null) || status=''
    case $newline$status in
        *"${newline}Uid:	0	"*) told root broken 'runs as root' ;;
        *"${newline}Uid:	"*) told root held "runs as user $(b id -u)" ;;
        *) told root unknown '/proc/self/status cannot be read' ;;
    esac
    trouble=''
    for key in CapInh CapPrm CapEff CapBnd CapAmb; do
        case $newline$status in *"${newline}$key:	0000000000000000$newline"*) ;; *) trouble="$trouble $key" ;; esac
    done
    held_unless capabilities "$trouble" 'has none, and can get none'
    case $newline$status in *"${newline}NoNewPrivs:	1$newline"*) ;; *) trouble="$trouble no_new_privs is not set" ;; esac
    case $newline$status in *"${newline}Seccomp:	2$newline"*) ;; *) trouble="$trouble no seccomp filter" ;; esac
    held_unless rights "$trouble" 'no_new_privs and a seccomp filter stand'
}

# PrivateNetwork= and its kin do nothing where the kernel or a container does not let them, and systemd goes on: so numbers are compared.
namespaces() {
    for kind in net mnt pid ipc; do
        ours=$(b stat -L -c %i "/proc/self/ns/$kind" 2>/dev/null) || ours=''
        theirs=$(fact ns | b sed -n "s/^$kind //p")
        if [ -z "$ours" ] || [ -z "$theirs" ]; then
            told "namespace-$kind" unknown 'the namespaces cannot be compared'
        elif [ "$ours" = "$theirs" ]; then
            told "namespace-$kind" broken "is in the $kind namespace of the host"
        else
            told "namespace-$kind" held "its $kind namespace is its own"
        fi
    done
}

interfaces() {
    wanted='lo '
    [ -z "$(fact egress)" ] || wanted='eth0 lo '
    found=$(b ip -o link 2>/dev/null | b sed -n 's/^[0-9]*: \([^:@]*\).*/\1/p' | b sort | b tr '\n' ' ')
    [ -n "$found" ] || found=$(b sed -n 's/^ *\([^ :]*\):.*/\1/p' /proc/self/net/dev 2>/dev/null | b sort | b tr '\n' ' ')
    case $found in
        "$wanted") told interfaces held "has $found" ;;
        '') told interfaces unknown 'the interfaces cannot be listed' ;;
        *) told interfaces broken "has $found, and is to have $wanted" ;;
    esac
}

# Knock where nothing may be reached: at this host, its gateway, the cloud's metadata and a server far away. Somebody who refuses was
# reached too.
reach() {
    ports=$(for port in $(fact port); do echo $((0x$port)); done)
    for where in $(fact here) $(fact gateway) 127.0.0.1; do
        for port in 22 53 80 443 $ports; do knock "$where" "$port" & done
    done
    knock 169.254.169.254 80 &
    knock 1.1.1.1 53 &
    knock 192.0.2.1 443 &
    wait
} >/tmp/.probe-reach 2>&1

knock() {
    is_allowed "$1" "$2" && return
    said=$(b timeout 2 "$box" nc -w 1 "$1" "$2" </dev/null 2>&1) && { echo "$1 port $2 answers"; return; }
    [ "$1" != 127.0.0.1 ] || return 0
    case $said in *efused*) echo "$1 port $2 refuses, so it is reached" ;; esac
}

is_allowed() { fact reaches | b grep -qxF "$1 $2"; }

names() {
    for server in 1.1.1.1 8.8.8.8 $(fact gateway) $(fact here) 127.0.0.1 127.0.0.53; do
        { b timeout 2 "$box" nslookup example.org "$server" 2>&1 | b grep -qE '^Name:|NXDOMAIN|REFUSED' && echo "$server answers to questions"; } &
    done
    wait
} >/tmp/.probe-names 2>&1

network_said() {
    for what in reach names; do
        if [ -e "/tmp/.probe-$what" ]; then trouble=$(b cat "/tmp/.probe-$what"); else trouble='nothing could be tried: /tmp cannot be written'; fi
        held_unless "$what" "$trouble" "$([ $what = reach ] && echo 'reaches only what is allowed' || echo 'nobody answers to questions')"
    done
    b rm -f /tmp/.probe-reach /tmp/.probe-names
}

# Any socket is a way to a service of the host.
sockets() {
    open=$(fact opens)
    found=$(
        for socket in /nix/var/nix/daemon-socket/socket /run/docker.sock /var/run/docker.sock /run/podman/podman.sock \
            /run/containerd/containerd.sock /run/dbus/system_bus_socket /run/systemd/private /run/systemd/notify; do
            if b test -e "$socket"; then echo "$socket"; fi
        done
        b find / \( -path /proc -o -path /sys -o -path /nix/store -o -path /usr \) -prune -o -type s -print 2>/dev/null
    )
    held_unless sockets "$(printf '%s\n' "$found" | b grep -vxF "${open:-/}" | b sort -u | b head -n 8)" 'no other socket of the host is there'
    for socket in $open; do
        case $socket in
            /nix/*) told nix-daemon open 'declared: what Nix builds for it may fetch by the network of the host' ;;
            *) told open-socket open "declared: $socket" ;;
        esac
    done
    abstract=$(b sed -n 's/.* @\(.*\)/@\1/p' /proc/self/net/unix 2>/dev/null | b head -n 3)
    held_unless abstract-sockets "$abstract" 'no socket without a file is there'
}

homes() {
    trouble=''
    for folder in $(fact home) /home /root /Users; do
        [ -z "$(b ls -A "$folder" 2>/dev/null)" ] || trouble="$trouble $folder"
    done
    held_unless homes "$trouble" 'no home of the host can be read'
}

# What fleet, the journal and others keep on the host.
folders() {
    trouble=''
    for folder in /run/fleet /run/fleet-sandboxes /run/fleet-sandbox-proofs /etc/fleet /nix/var /var/lib /var/log /boot /srv /mnt /media \
        /etc/ssh /run/secrets /run/agenix /run/keys /run/current-system; do
        listed=$(b ls -A "$folder" 2>/dev/null) || continue
        case $folder/$listed in
            /var/lib/private | /nix/var/nix) continue ;; # the folder of a socket that is declared
            */) ;;
            *) trouble="$trouble $folder" ;;
        esac
    done
    held_unless folders "$trouble" "neither fleet's state nor that of the host can be read"
}

processes() {
    me=$(b id -u) trouble='' count=0
    for folder in $(set +f; echo /proc/[0-9]*); do
        count=$((count + 1))
        owner=$(b stat -c %u "$folder" 2>/dev/null) || continue
        [ "$owner" = "$me" ] || trouble="$trouble ${folder#/proc/}"
    done
    [ $count -gt 0 ] || trouble='/proc is not there'
    [ "$(b stat -L -c %d:%i /proc/1/root/ 2>/dev/null || echo none)" != "$(fact root)" ] || trouble="$trouble the root of the host"
    held_unless processes "$trouble" 'sees no process of others'
}

kernel() {
    trouble=''
    for knob in /proc/sys/kernel/core_pattern /proc/sys/kernel/hostname /proc/sys/vm/drop_caches /proc/sys/net/ipv4/ip_forward \
        /proc/sysrq-trigger /sys/kernel/uevent_helper /sys/fs/cgroup/cgroup.procs /sys/power/state; do
        if (: >>"$knob") 2>/dev/null; then trouble="$trouble $knob can be written"; fi
    done
    b head -c 1 /proc/kcore >/dev/null 2>&1 && trouble="$trouble /proc/kcore can be read"
    b dmesg >/dev/null 2>&1 && trouble="$trouble the log of the kernel can be read"
    b mount -t tmpfs none /tmp >/dev/null 2>&1 && trouble="$trouble it can mount"
    for flag in -U -m -n; do b unshare $flag "$box" true >/dev/null 2>&1 && trouble="$trouble it can make namespaces ($flag)"; done
    b chroot / "$box" true >/dev/null 2>&1 && trouble="$trouble it can chroot"
    b mknod /tmp/.probe-node b 7 0 >/dev/null 2>&1 && { trouble="$trouble it can make devices"; b rm -f /tmp/.probe-node; }
    held_unless kernel "$trouble" 'no knob can be turned, and nothing mounted'
}

raw() {
    trouble=''
    case $(b ping -c 1 -W 1 127.0.0.1 2>&1) in *'bytes from'* | *'packets transmitted'*) trouble='raw sockets (ping)' ;; esac
    case $(b arping -c 1 -w 1 -I lo 127.0.0.1 2>&1) in *'ARPING'*) trouble="$trouble packet sockets (arping)" ;; esac
    held_unless raw-sockets "$trouble" 'it can make none'
}

keys() {
    trouble=$(b find / \( -path /proc -o -path /sys -o -path /nix/store -o -path /usr -o -path /work \) -prune -o \
        \( -name 'id_*' -o -name 'ssh_host_*_key' -o -name authorized_keys -o -name '*.pem' -o -name .netrc -o -name .git-credentials \) \
        -type f -print 2>/dev/null | b head -n 5)
    [ -z "${SSH_AUTH_SOCK-}" ] || trouble="$trouble SSH_AUTH_SOCK=$SSH_AUTH_SOCK"
    held_unless ssh-keys "$trouble" 'no key is there'
}

credentials() {
    trouble=''
    for file in $(b ls -A /run/credentials 2>/dev/null); do
        [ "/run/credentials/$file" = "${CREDENTIALS_DIRECTORY-}" ] || trouble="$trouble $file"
    done
    for file in $(b ls -A "${CREDENTIALS_DIRECTORY:-/none}" 2>/dev/null); do
        fact credential | b grep -qxF "$file" || trouble="$trouble $file"
    done
    for file in $(fact credential); do b head -c 1 "${CREDENTIALS_DIRECTORY:-/none}/$file" >/dev/null 2>&1 || trouble="$trouble $file is missing"; done
    held_unless credentials "$trouble" 'only those that are named are there'
}

# Whatever is in the store can be read by whoever sees it. So only what the packages need is there.
store() {
    if [ "$(fact nix)" = yes ]; then told store open 'declared: the whole store can be read'; return; fi
    wanted=$(fact store | b sed 's#/nix/store/##')
    trouble=$(b ls -A /nix/store 2>/dev/null | b grep -vxF "${wanted:-/}" | b head -n 3)
    held_unless store "$trouble" 'only what its packages need is there of the store'
}

setuid() {
    trouble=''
    if b cp "$box" /tmp/.probe-set 2>/dev/null; then
        b chmod 4755 /tmp/.probe-set 2>/dev/null && trouble='it can make a program setuid'
        b rm -f /tmp/.probe-set
    else
        trouble='nothing could be tried: /tmp cannot be written'
    fi
    for program in sudo su mount newuidmap pkexec; do
        for folder in /usr/bin /bin /run/wrappers/bin /usr/local/bin; do
            b test -u "$folder/$program" || continue
            case $("$folder/$program" -n id -u </dev/null 2>/dev/null) in 0) trouble="$trouble $folder/$program gives root" ;; esac
        done
    done
    held_unless setuid "$trouble" 'no program gives rights'
}

writing() {
    trouble=''
    for folder in / /etc /usr /bin /lib /nix /nix/store /run /var /dev /sys /proc; do
        if (: >"$folder/.probe") 2>/dev/null; then trouble="$trouble $folder"; b rm -f "$folder/.probe"; fi
    done
    held_unless writing "$trouble" 'can write only to /work and /tmp'
}

devices() {
    trouble=$(b find /dev -type b 2>/dev/null; b find /dev -type c 2>/dev/null |
        b grep -vxE '/dev/(null|zero|full|random|urandom|tty|ptmx|pts/.*|console)' | b head -n 5)
    held_unless devices "$trouble" 'no device of the host is there'
}

# Folders that everybody may write to are ways from one to another.
shared() {
    trouble=''
    for folder in /dev/shm /dev/mqueue /tmp /var/tmp; do
        theirs=$(fact shared | b sed -n "s#^$folder ##p")
        [ -z "$theirs" ] || [ "$(b stat -L -c %d:%i "$folder" 2>/dev/null || echo none)" != "$theirs" ] || trouble="$trouble $folder"
    done
    held_unless shared "$trouble" 'shares no folder for everybody with the host'
}

main "$@"
